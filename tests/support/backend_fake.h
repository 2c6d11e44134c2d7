/* tests/support/backend_fake.h: a backend without a network: what the gateway posts waits until the test answers. Takes the place of gateway/webhook/backend.c. */
#ifndef XD_TESTS_BACKEND_FAKE_H
#define XD_TESTS_BACKEND_FAKE_H

#include "gateway/webhook/backend.h"

/* Options with which a gateway has it. */
#define BACKEND_FAKE "--backend-url", "http://127.0.0.1:1/", "--backend-secret-file", "none"

/* How many posts wait for an answer. */
size_t fake_posts(const struct backend *b);
/* The body of the at-th of them, oldest first. */
const char *fake_body(const struct backend *b, size_t at);
/* Answers that one. */
void fake_answer(struct backend *b, size_t at, int status, const char *body);
/* There was no answer: err, and not before so long. */
void fake_fail(struct backend *b, size_t at, enum err err, uint32_t retry_ms);
/* The breaker opens; or closes again, and whoever wants to know is told. */
void fake_closed(struct backend *b, bool closed);

#endif
