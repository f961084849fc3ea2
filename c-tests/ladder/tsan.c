/* What rustc's thread sanitizer calls and gcc's run-time library, an older one, lacks: the functions that it watches do
 * the same. Above: `cargo xtask programs --sanitizer thread`. */
#include <stddef.h>
#include <string.h>

void *__tsan_memcpy(void *to, const void *from, size_t n) { return memcpy(to, from, n); }
void *__tsan_memmove(void *to, const void *from, size_t n) { return memmove(to, from, n); }
void *__tsan_memset(void *to, int byte, size_t n) { return memset(to, byte, n); }
