# For the rungs with nginx: its configuration, and a load.
conf() { # NAME MAIN SERVER
cat > $1.conf <<END
$2 pid $DIR/$1.pid; error_log $DIR/$1.err; user root; events { worker_connections 256; }
http { access_log off; sendfile on; tcp_nopush on; client_body_temp_path $DIR/1; proxy_temp_path $DIR/2;
  fastcgi_temp_path $DIR/3; uwsgi_temp_path $DIR/4; scgi_temp_path $DIR/5; $3 }
END
}
echo small > small
# wrk for a while: every request is answered.
asks() { # URL
    timeout 100 $UC wrk -t4 -c64 -d${WHOLE:+1}2 --timeout 60 $1 > wrk.said
    ! grep -E 'Socket errors|Non-2xx' wrk.said; grep -q Requests/sec wrk.said; echo "wrk: done" >> results
}
