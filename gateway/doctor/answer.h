/* gateway/doctor/answer.h: what a server says, as bytes: the head of an HTTP answer, and WebSocket frames as a client receives them. Pure. */
#ifndef XD_DOCTOR_ANSWER_H
#define XD_DOCTOR_ANSWER_H

#include <stdbool.h>
#include <stddef.h>
#include <time.h>

#include "base/error.h"
#include "base/slice.h"

struct answer {
    int status;
    struct slice headers; /* lines with their CR LF; borrowed */
    size_t head;          /* bytes of the whole head, the empty line included */
};

/* *ret_more is set when the head is not complete yet; an error is a head that can never become one. */
enum err answer_parse(struct slice in, struct answer *ret, bool *ret_more, struct error *reterr);

/* The value of the first header of this name, in any case, without spaces around it; p is NULL when there is none. *ret_count, which may be NULL, is how
 * many there are. */
struct slice answer_header(const struct answer *a, const char *name, size_t *ret_count);

/* Whether one of the comma-separated words is this one, in any case. */
bool answer_list_has(struct slice list, const char *word);

/* A Date header in the one format that may be sent (RFC 9110 §5.6.7). */
bool answer_date(struct slice text, time_t *ret);

enum { FRAME_CONTINUATION = 0, FRAME_TEXT = 1, FRAME_BINARY = 2, FRAME_CLOSE = 8, FRAME_PING = 9, FRAME_PONG = 10 };
#define FRAME_MAX 65536 /* bytes of payload the doctor is willing to read */

struct frame {
    unsigned opcode;
    bool fin;
    struct slice payload; /* borrowed */
    size_t size;          /* of the whole frame */
};

/* One frame of a server, from the beginning of in. As above with *ret_more. */
enum err frame_parse(struct slice in, struct frame *ret, bool *ret_more, struct error *reterr);

#endif
