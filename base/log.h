/* base/log.h: one line per fact, with its subject. Never a token, never a payload.
 *
 *   LOG(INFO, "session opened", "session=%s peer=%s", sid, peer);
 *
 * The message is constant (it is what operators search for); the fields vary. In text format the line is
 * `TIME LEVEL message key=value …`; in JSON format every key=value becomes a member. Values with spaces, quotes,
 * control bytes or invalid UTF-8 are quoted/escaped by LOG_Q. base/, proto/ and parsers never log. */
#ifndef XD_BASE_LOG_H
#define XD_BASE_LOG_H

#include <stdbool.h>
#include <stdint.h>

#include "base/slice.h"

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };
enum log_format { LOG_TEXT, LOG_JSON };

extern enum log_level log_threshold;

/* Process-wide; writes to stderr. node is shown on every line when not NULL and is copied. */
void log_setup(enum log_level level, enum log_format format, const char *node);

/* A limiter lets `burst` lines through per second for one call site, then counts what it swallowed and says so. */
struct log_limit {
    uint64_t second;
    uint32_t burst, used, swallowed;
};

/* fields is a printf format of space-separated key=value, or "" for none. limit may be NULL. */
void log_line(enum log_level level, struct log_limit *limit, const char *message, const char *fields, ...)
    __attribute__((format(printf, 4, 5)));

/* Quotes s for a log value into one of a few rotating static buffers: at most 120 bytes of it, never invalid UTF-8. */
const char *log_q(struct slice s);

#define LOG(level, ...)                                                                                                \
    do {                                                                                                               \
        if (LOG_##level <= log_threshold)                                                                              \
            log_line(LOG_##level, NULL, __VA_ARGS__);                                                                  \
    } while (0)

/* For lines a peer can cause: at most 10 per second from this place. */
#define LOG_PEER(level, ...)                                                                                           \
    do {                                                                                                               \
        static struct log_limit limit_ = {.burst = 10};                                                                \
        if (LOG_##level <= log_threshold)                                                                              \
            log_line(LOG_##level, &limit_, __VA_ARGS__);                                                               \
    } while (0)

#endif
