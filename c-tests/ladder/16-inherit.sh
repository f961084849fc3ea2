# Sockets that other processes get, by every way there is.
cat > app.py <<'END'
def app(environ, start):
    start("200 OK", []); return [open("file", "rb").read()]
END
serve S 8000 gunicorn -w 4 -b $S:8000 app:app
for i in 1 2 3 4 5 6; do took gunicorn-$i $UC curl -fsS http://$S:8000/; done
serve S 9000 python3 "$LADDER/pass.py" serve $S
for how in fork pass_fds rights makefile; do took $how $UC python3 "$LADDER/pass.py" $how $S; done
