/* A shared object that is loaded before the preload shim's constructor has run, and calls what the shim interposes: an
 * allocator that reads a file when it is first used, as jemalloc does, and a constructor that makes a socket and waits
 * for it. processes.c, part "early", asks what came of it. */
#define LIBC_SOCKETS
#include "common.h"

/* Read by the allocator at its first use; 'M' of "MemTotal:". */
char early_first_byte;
/* A connection that the constructor made. */
int early_pair[2] = {-1, -1};

static char heap[64 << 20] __attribute__((aligned(16)));
static size_t used;

static void begin_heap(void)
{
    static bool begun;
    if (begun)
        return;
    begun = true;
    int fd = open("/proc/meminfo", O_RDONLY);
    if (read(fd, &early_first_byte, 1) != 1)
        early_first_byte = '?';
    close(fd);
    struct pollfd p = {.fd = -1};
    poll(&p, 1, 0);
    syscall(SYS_getpid);
}

/* Gives out and never takes back; the size stands before each block. Threads take turns by the atomic addition. */
void *malloc(size_t size)
{
    begin_heap();
    size_t need = (size + 31) & ~(size_t)15;
    size_t at = __atomic_fetch_add(&used, need, __ATOMIC_RELAXED);
    if (at + need > sizeof heap)
        return NULL;
    *(size_t *)(heap + at) = size;
    return heap + at + 16;
}

void free(void *block)
{
    (void)block;
}

void *calloc(size_t count, size_t size)
{
    return malloc(count * size); /* the heap is zero, and nothing is given out twice */
}

void *realloc(void *block, size_t size)
{
    void *larger = malloc(size);
    if (block && larger) {
        size_t before = *(size_t *)((char *)block - 16);
        memcpy(larger, block, before < size ? before : size);
    }
    return larger;
}

/* Aligned as the caller wants it, with the size before it. */
void *aligned_alloc(size_t alignment, size_t size)
{
    char *block = malloc(size + alignment);
    if (!block)
        return NULL;
    char *aligned = (char *)(((uintptr_t)block + alignment - 1) & ~(uintptr_t)(alignment - 1));
    if (aligned - block < 16 && aligned != block)
        aligned += alignment;
    *(size_t *)(aligned - 16) = size;
    return aligned;
}

int posix_memalign(void **block, size_t alignment, size_t size)
{
    *block = aligned_alloc(alignment, size);
    return *block ? 0 : ENOMEM;
}

__attribute__((constructor)) static void connect_early(void)
{
    tcp_pair(AF_INET, early_pair);
}
