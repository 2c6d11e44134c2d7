/* tests/support/log_catch.h: what the program under test says on stderr, to look at. */
#ifndef XD_TESTS_LOG_CATCH_H
#define XD_TESTS_LOG_CATCH_H

#include <stdbool.h>

/* From here on stderr goes to a file, and INFO is logged. Not twice in a row. */
void log_catch_start(void);
/* Does any line so far hold the text? */
bool log_caught(const char *text);
/* stderr and the level are as before; what was caught is written there when `show`. Harmless when nothing was started. */
void log_catch_stop(bool show);

#endif
