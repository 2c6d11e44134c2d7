/* base/random.h: unguessable values from the kernel, and cheap ones that need not be. */
#ifndef XD_BASE_RANDOM_H
#define XD_BASE_RANDOM_H

#include <stddef.h>
#include <stdint.h>

/* Cryptographically strong; ends the process when the kernel has none to give. */
void random_bytes(void *p, size_t n);

/* Writes n letters of base64url and a NUL: 6 bits of strong randomness each. ret holds n + 1 bytes. */
void random_id(char *ret, size_t n);

/* Writes n lower-case hex digits and a NUL. ret holds n + 1 bytes. */
void random_hex(char *ret, size_t n);

/* Uniform enough in [0, below) for jitter; below is not 0. */
uint32_t random_below(uint32_t below);

#endif
