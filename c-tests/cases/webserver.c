/* webserver [--config STR] [--info] [--once N] ADDR PORT DIR
 *
 * A small HTTP/1.1 file server: GET and HEAD, keep-alive, Content-Length, bodies by sendfile. A thread per connection,
 * at most MAX_CONNECTIONS at once (more wait in the accept queue). Everything is looked for below DIR; a path with a
 * `..` component is refused, and no symbolic link is followed. 400, 404, 405,
 * 431 and 505 are answered as such. PORT 0 takes a free one; the line "listening ADDR PORT" on stdout says which.
 * --info prints the tcp_info of each finished connection to stderr; --once N ends after N connections. */
#include "program.h"

enum { MAX_CONNECTIONS = 256, MAX_HEADER = 16384 };

static int root; /* O_PATH descriptor of DIR */
static bool info;
static pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t freed = PTHREAD_COND_INITIALIZER;
static int active; /* under `gate` */

struct request {
    char *method, *path;
    bool http10, close, body;
};

static const char *type_of(const char *path)
{
    static const char *table[][2] = {{".html", "text/html"}, {".txt", "text/plain"}, {".css", "text/css"},
                                     {".js", "text/javascript"}, {".json", "application/json"}, {".png", "image/png"}};
    const char *dot = strrchr(path, '.');
    for (int i = 0; dot && i < COUNT(table); i++)
        if (strcmp(dot, table[i][0]) == 0)
            return table[i][1];
    return "application/octet-stream";
}

static int hex(int c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Takes %xx out in place; false when it is not well formed or hides a zero byte. */
static bool decode(char *s)
{
    char *out = s;
    for (; *s; s++) {
        if (*s != '%') {
            *out++ = *s;
            continue;
        }
        int hi = hex(s[1]), lo = hi < 0 ? -1 : hex(s[2]);
        if (lo < 0 || (hi == 0 && lo == 0))
            return false;
        *out++ = (char)(hi * 16 + lo);
        s += 2;
    }
    *out = 0;
    return true;
}

/* Opens `path` below the root component by component, so that neither `..` nor a link leads out of it. */
static int open_below(char *path)
{
    int dir = dup(root);
    char *save = NULL;
    for (char *part = strtok_r(path, "/", &save); part && dir != -1;) {
        char *following = strtok_r(NULL, "/", &save);
        int fd = -1;
        if (strcmp(part, "..") == 0)
            errno = EACCES;
        else
            fd = openat(dir, part, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC | (following ? O_DIRECTORY : 0));
        int e = errno;
        close(dir);
        errno = e;
        dir = fd;
        part = following;
    }
    return dir;
}

/* The status line, the headers, and for an error a short text as the body. */
static int answer(int fd, const char *status, const char *type, long long length, bool keep, bool head,
                  const char *text)
{
    char out[512];
    int n = snprintf(out, sizeof out,
                     "HTTP/1.1 %s\r\nContent-Type: %s\r\nContent-Length: %lld\r\nConnection: %s\r\n%s\r\n%s", status,
                     type, length, keep ? "keep-alive" : "close",
                     strncmp(status, "405", 3) ? "" : "Allow: GET, HEAD\r\n",
                     text && !head ? text : "");
    return write_all(fd, out, (size_t)n, text || head || length == 0 ? 0 : MSG_MORE);
}

static int refuse(int fd, const char *status, bool keep, bool head)
{
    char text[64];
    int n = snprintf(text, sizeof text, "%s\n", status);
    return answer(fd, status, "text/plain", n, keep, head, text);
}

/* Serves one request; false when the connection is to end. */
static bool serve(int fd, struct request *r)
{
    bool head = strcmp(r->method, "HEAD") == 0, keep = !r->close;
    if (!head && strcmp(r->method, "GET") != 0)
        return refuse(fd, "405 Method Not Allowed", keep && !r->body, false) == 0 && keep && !r->body;
    keep = keep && !r->body; /* a body would have to be read past; the next request would start inside it */
    r->path[strcspn(r->path, "?#")] = 0;
    if (r->path[0] != '/' || !decode(r->path))
        return refuse(fd, "400 Bad Request", false, head), false;
    const char *type = type_of(r->path);
    int file = open_below(r->path);
    struct stat st;
    if (file != -1 && fstat(file, &st) == 0 && S_ISDIR(st.st_mode)) {
        int index = openat(file, "index.html", O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
        close(file);
        file = index;
        type = "text/html";
    }
    if (file == -1 || fstat(file, &st) == -1 || !S_ISREG(st.st_mode)) {
        if (file != -1)
            close(file);
        return refuse(fd, "404 Not Found", keep, head) == 0 && keep;
    }
    bool good = answer(fd, "200 OK", type, (long long)st.st_size, keep, head, NULL) == 0;
    off_t at_byte = 0;
    while (good && !head && at_byte < st.st_size) {
        ssize_t n = usk_sendfile(fd, file, &at_byte, (size_t)(st.st_size - at_byte));
        /* 0: the file was cut short meanwhile; only ending the connection tells the client. */
        if (n == 0 || (n == -1 && errno != EINTR))
            good = false;
    }
    close(file);
    return good && keep;
}

/* Takes a header block apart in place; gives NULL, or the status to refuse it with. */
static const char *parse(char *text, struct request *r)
{
    char *save, *line = strtok_r(text, "\r\n", &save), *parts;
    if (!line)
        return "400 Bad Request";
    r->method = strtok_r(line, " ", &parts);
    r->path = strtok_r(NULL, " ", &parts);
    char *version = strtok_r(NULL, " ", &parts);
    if (!r->method || !r->path || !version || strtok_r(NULL, " ", &parts) || strncmp(version, "HTTP/", 5) != 0)
        return "400 Bad Request";
    r->http10 = strcmp(version, "HTTP/1.0") == 0;
    if (!r->http10 && strcmp(version, "HTTP/1.1") != 0)
        return "505 HTTP Version Not Supported";
    r->close = r->http10;
    bool host = false;
    while ((line = strtok_r(NULL, "\r\n", &save))) {
        char *colon = strchr(line, ':');
        if (!colon || colon == line || line[0] == ' ' || line[0] == '\t')
            return "400 Bad Request";
        *colon = 0;
        char *value = colon + 1 + strspn(colon + 1, " \t");
        if (strcasecmp(line, "host") == 0)
            host = true;
        else if (strcasecmp(line, "connection") == 0)
            r->close = strcasestr(value, "close") || (r->http10 && !strcasestr(value, "keep-alive"));
        else if (strcasecmp(line, "transfer-encoding") == 0)
            r->body = true;
        else if (strcasecmp(line, "content-length") == 0)
            r->body = strcmp(value, "0") != 0;
    }
    return host || r->http10 ? NULL : "400 Bad Request";
}

/* The requests of one connection, one after the other. */
static void converse(int fd)
{
    char buf[MAX_HEADER + 1];
    size_t have = 0;
    for (;;) {
        buf[have] = 0;
        char *end = memmem(buf, have, "\r\n\r\n", 4);
        if (!end) {
            if (have == MAX_HEADER) {
                refuse(fd, "431 Request Header Fields Too Large", false, false);
                return;
            }
            ssize_t n = usk_recv(fd, buf + have, MAX_HEADER - have, 0);
            if (n == -1 && errno == EINTR)
                continue;
            if (n <= 0)
                return;
            have += (size_t)n;
            continue;
        }
        size_t used = (size_t)(end - buf) + 4;
        struct request r = {0};
        *end = 0;
        const char *status = memchr(buf, 0, (size_t)(end - buf)) ? "400 Bad Request" : parse(buf, &r);
        if (status) {
            refuse(fd, status, false, false);
            return;
        }
        if (!serve(fd, &r))
            return;
        have -= used;
        memmove(buf, buf + used, have);
    }
}

static void *connection(void *arg)
{
    int fd = (int)(intptr_t)arg;
    converse(fd);
    /* End our half and read what is left: closing over unread bytes would reset the connection and could take the
     * answer with it. */
    if (usk_shutdown(fd, SHUT_WR) == 0) {
        struct timeval patience = {.tv_sec = 2};
        usk_setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
        char rest[4096];
        for (int i = 0; i < 64 && usk_recv(fd, rest, sizeof rest, 0) > 0; i++)
            ;
    }
    if (info) {
        struct tcp_info t = {0};
        socklen_t len = sizeof t;
        CHECK(pthread_mutex_lock(&gate) == 0);
        if (usk_getsockopt(fd, IPPROTO_TCP, TCP_INFO, &t, &len) == 0) {
            fprintf(stderr, "connection finished, tcp_info:\n");
            print_tcp_info(stderr, &t);
        }
        CHECK(pthread_mutex_unlock(&gate) == 0);
    }
    usk_close(fd);
    CHECK(pthread_mutex_lock(&gate) == 0);
    active--;
    CHECK(pthread_cond_signal(&freed) == 0);
    CHECK(pthread_mutex_unlock(&gate) == 0);
    return NULL;
}

int main(int argc, char **argv)
{
    const char *config_arg[3] = {argv[0], NULL, NULL};
    int i = 1;
    long once = 0;
    for (; i < argc && strncmp(argv[i], "--", 2) == 0; i++) {
        if (strcmp(argv[i], "--info") == 0)
            info = true;
        else if (strcmp(argv[i], "--once") == 0 && i + 1 < argc)
            once = strtol(argv[++i], NULL, 10);
        else if (strcmp(argv[i], "--config") == 0 && i + 1 < argc) {
            config_arg[1] = argv[i];
            config_arg[2] = argv[++i];
        } else
            break;
    }
    if (argc - i != 3) {
        fprintf(stderr, "usage: webserver [--config STR] [--info] [--once N] ADDR PORT DIR\n");
        return 2;
    }
    root = open(argv[i + 2], O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (root == -1)
        die("cannot open %s", argv[i + 2]);
    start_stack(config_arg[1] ? 3 : 1, (char **)config_arg, 1);
    struct addr a = parse_addr(argv[i], argv[i + 1]);
    int l = usk_socket(a.sa.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;
    if (l == -1 || usk_setsockopt(l, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) == -1)
        die("no socket");
    if (usk_bind(l, &a.sa, a.len) == -1 || usk_listen(l, 128) == -1)
        die("cannot listen on %s port %s", argv[i], argv[i + 1]);
    printf("listening %s %d\n", argv[i], port_of(sock_name(l)));
    fflush(stdout);

    pthread_attr_t detached;
    pthread_attr_init(&detached);
    pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
    for (long served = 0; once == 0 || served < once; served++) {
        CHECK(pthread_mutex_lock(&gate) == 0);
        while (active == MAX_CONNECTIONS)
            CHECK(pthread_cond_wait(&freed, &gate) == 0);
        active++;
        CHECK(pthread_mutex_unlock(&gate) == 0);
        int fd;
        while ((fd = usk_accept4(l, NULL, NULL, SOCK_CLOEXEC)) == -1)
            if (errno != EINTR && errno != ECONNABORTED)
                die("accept");
        pthread_t t;
        errno = pthread_create(&t, &detached, connection, (void *)(intptr_t)fd);
        if (errno)
            die("no thread");
    }
    CHECK(pthread_mutex_lock(&gate) == 0);
    while (active > 0)
        CHECK(pthread_cond_wait(&freed, &gate) == 0);
    CHECK(pthread_mutex_unlock(&gate) == 0);
    usk_close(l);
    close(root);
    return 0;
}
