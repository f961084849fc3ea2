/* The side "server": the kernel's calls under the preload shim, so that TCP sockets are a stack server's. Each sequence
 * is a program of its own, since a program has one server, in a network namespace that both have for themselves. */
#ifndef DIFFERENTIAL_SERVED_H
#define DIFFERENTIAL_SERVED_H
#include <stdbool.h>

/* The programs that make it: the `usersock` command and the shim (--command, --shim). */
extern const char *server_command, *server_shim;
/* Starts a server and this program under it, to run one sequence: `args` come behind "--on served". Prints how it
 * ended where that is not well. For a child of the driver: 0, or 3 for want of something outside. */
int run_with_server(char *const *args);
/* Whether this is such a program. */
bool is_served(void);
/* Returns when the server has done what the last call began: it works in a process of its own. */
void let_server_work(void);
#endif
