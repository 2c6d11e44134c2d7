/* base/file.h: small files, read whole. */
#ifndef XD_BASE_FILE_H
#define XD_BASE_FILE_H

#include "base/buf.h"

/* Appends the file to ret. NULL, or why not: a sentence, in a static buffer when the file has more than max bytes. What was read so far may be in ret. */
const char *file_read(const char *path, size_t max, struct buf *ret);

#endif
