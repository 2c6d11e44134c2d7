/* tests/support/api_fixture.h: asking the server API of a gateway without a network, with keys. */
#ifndef XD_TESTS_API_FIXTURE_H
#define XD_TESTS_API_FIXTURE_H

#include <stdio.h>

#include "tests/support/core_fixture.h"

#define KEYS_FILE keys_file()
#define ARGS(...) ((const char *const[]){"--message-rate", "0", "--api-keys", KEYS_FILE, __VA_ARGS__, NULL})
#define ALL       "xdk_0123456789abcdef0123456789abcdef"
#define READER    "xdk_reader_0123456789abcdef01234567"
#define CHAT      "xdk_chat_0123456789abcdef0123456789"
#define SLOW      "xdk_slow_0123456789abcdef0123456789"

struct answer {
    struct http_exchange x;
    int status;
    char headers[300];
    struct buf body;
};

/* The last answer. */
extern struct answer answer;
/* What is asked with when a test says nothing else; key NULL: none. */
extern const char *key, *request_id;
extern bool by_api_listener;

/* Asks, waits, expects this status and JSON; the text lasts until the next call. */
const char *ask(struct core *c, const char *method, const char *target, const char *body, int want);
/* POST /api/v1/<what> */
const char *post(struct core *c, const char *what, const char *body, int want);
void has(const char *text, const char *what);

/* An entry of a file of keys; rest: its members but for name and sha256. */
void put_key(FILE *f, const char *name, const char *secret, const char *rest);
/* Each program has one of its own. */
const char *keys_file(void);
/* For a whole program: the file of keys. Before each test: what is asked with. */
int write_keys(void **state);
int remove_keys(void **state);
int reset(void **state);

#define CASE(name) cmocka_unit_test_setup(name, reset)

#endif
