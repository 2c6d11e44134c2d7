/* gateway/question.h: what the backend is asked while somebody waits, and how its answer is read (docs/backend.md): JSON both ways. */
#ifndef XD_QUESTION_H
#define XD_QUESTION_H

#include "base/arena.h"
#include "base/buf.h"
#include "gateway/webhook/backend.h"
#include "proto/envelope.h"
#include "proto/json.h"

struct gateway;
struct session;

#define QUESTION_ID_MAX     64u
#define QUESTION_REASON_MAX 300u /* bytes of a reason that reach a client */

struct question {
    struct buf body;
    char id[QUESTION_ID_MAX];
};

/* Begins an object: id, type, `"sync":true`, time, node, and with a session its name, user and namespace. */
void question_begin(struct question *q, struct gateway *g, const char *type, const struct session *s);
/* Members; an empty or (for text) ill-formed value is left out. */
void question_text(struct question *q, const char *name, struct slice value);
void question_data(struct question *q, struct slice data, enum data_type type);
void question_end(struct question *q);

/* Members that an answer may have. */
enum answer_member { ANSWER_ALLOW, ANSWER_REASON, ANSWER_DATA, ANSWER_EVENT, ANSWER_ACTIONS, ANSWER_MEMBERS };

struct answer {
    struct json_value members[ANSWER_MEMBERS]; /* point into the result's body */
    char reason[QUESTION_REASON_MAX + 1];      /* of a refusal */
};

/* OK: it agrees. ERR_REFUSED: it does not, the reason is in *ret. Else there is no (usable) answer; *reterr says why. */
enum err answer_read(const struct backend_result *r, struct answer *ret, struct error *reterr);

#endif
