/* moderated-chat.c: a whole backend in C. What is said in rooms chat.* passes by it: who uses a bad word is told why it was refused, and is put out at the third time.
 * One request at a time, over plain HTTP: for the gateway's own machine.
 *   cc -O2 -o moderated-chat moderated-chat.c -ljansson -lcrypto && openssl rand -hex 32 > backend.key
 *   ./moderated-chat 8081 backend.key &
 *   xindao-gateway … --backend-url http://127.0.0.1:8081/ --backend-secret-file backend.key --policy 'chat.* publish=backend' */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <jansson.h>
#include <openssl/crypto.h>
#include <openssl/hmac.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { REQUEST_MAX = 1 << 20 };
static char key[512], request[REQUEST_MAX + 1];
static json_t *strikes; /* by session */

/* What follows the name in the head, or an empty text. */
static const char *header(const char *head, const char *name)
{
    const char *at = strcasestr(head, name);
    return at != NULL ? at + strlen(name) : "";
}

/* v1=<hex of HMAC-SHA256 over timestamp.body>; while keys change there are two, with a comma between: one that fits suffices. */
static int is_ours(const char *head, const char *body, size_t n)
{
    static char text[REQUEST_MAX + 32];
    const char *at = header(head, "\r\nXindao-Timestamp: "), *given = header(head, "\r\nXindao-Signature: ");
    unsigned char mac[EVP_MAX_MD_SIZE];
    char hex[65];
    int length = snprintf(text, 32, "%.*s.", (int)strspn(at, "0123456789"), at);
    if (length >= 32 || llabs(time(NULL) - strtoll(at, NULL, 10)) > 300)
        return 0;
    memcpy(text + length, body, n);
    HMAC(EVP_sha256(), key, (int)strlen(key), (unsigned char *)text, (size_t)length + n, mac, NULL);
    for (int i = 0; i < 32; i++)
        snprintf(hex + 2 * i, 3, "%02x", mac[i]);
    for (; strncmp(given, "v1=", 3) == 0 && strlen(given) >= 67; given += given[67] == ',' ? 68 : 67)
        if (CRYPTO_memcmp(given + 3, hex, 64) == 0)
            return 1;
    return 0;
}

/* What to answer; NULL: nothing to say. */
static json_t *decide(const json_t *e)
{
    const char *type = json_string_value(json_object_get(e, "type")), *session = json_string_value(json_object_get(e, "session"));
    const char *said = json_string_value(json_object_get(json_object_get(e, "data"), "text"));
    if (type == NULL || session == NULL)
        return NULL;
    if (strcmp(type, "disconnect") == 0)
        json_object_del(strikes, session);
    if (strcmp(type, "publish") != 0 || said == NULL || strcasestr(said, "heck") == NULL)
        return NULL;
    long long n = json_integer_value(json_object_get(strikes, session)) + 1;
    json_object_set_new(strikes, session, json_integer(n));
    return json_pack("{s:b, s:s, s:o}", "allow", 0, "reason", n < 3 ? "mind your language" : "that was the third time", "actions",
                     n < 3 ? json_array() : json_pack("[{s:s, s:s}]", "do", "disconnect", "reason", "language"));
}

static void serve(int fd)
{
    size_t n = 0, length = 0;
    char *body = NULL;
    for (ssize_t got; body == NULL || n < (size_t)(body - request) + length;) {
        if ((got = read(fd, request + n, REQUEST_MAX - n)) <= 0)
            return; /* gone, silent for too long, or too large */
        request[n += (size_t)got] = '\0';
        if (body == NULL && (body = strstr(request, "\r\n\r\n")) != NULL) {
            length = strtoul(header(request, "\r\nContent-Length: "), NULL, 10);
            *body = '\0', body += 4; /* headers are looked for in the head alone */
        }
    }
    json_t *event = is_ours(request, body, length) ? json_loadb(body, length, 0, NULL) : NULL, *answer = decide(event);
    char *text = answer != NULL ? json_dumps(answer, JSON_COMPACT) : strdup("");
    dprintf(fd, "HTTP/1.1 %s\r\nContent-Length: %zu\r\nConnection: close\r\n\r\n%s", event != NULL ? "200 OK" : "401 Unauthorized", strlen(text), text);
    free(text), json_decref(answer), json_decref(event);
}

int main(int argc, char **argv)
{
    in_port_t port = htons((in_port_t)(argc == 3 ? atoi(argv[1]) : 0));
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_port = port, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    FILE *f = argc == 3 ? fopen(argv[2], "r") : NULL;
    int door = socket(AF_INET, SOCK_STREAM, 0);
    if (f == NULL || fscanf(f, "%511s", key) != 1 || bind(door, (struct sockaddr *)&here, sizeof here) != 0 || listen(door, 128) != 0)
        return perror("moderated-chat PORT KEYFILE"), 1;
    signal(SIGPIPE, SIG_IGN);
    strikes = json_object();
    puts("ready"), fflush(stdout);
    for (int fd; (fd = accept(door, NULL, NULL)) >= 0; close(fd)) {
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &(struct timeval){.tv_sec = 5}, sizeof(struct timeval));
        serve(fd);
    }
}
