/* peers/lws.c: room server on libwebsockets, driven the fastest way known: libev, one encoding per message, raw writes of
 * whole batches. Every frame goes to all members of the room in the URL, /r/<number>.
 *
 * Evidence for the decision to drive OpenSSL directly in gateway/net; not a server for anything but the bench: messages
 * are taken from single unfragmented frames, and memory is not defended.
 *
 * usage: peer-lws PORT CERT KEY */
#include <ev.h>
#include <libwebsockets.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_ROOMS     16384
#define BATCH_BYTES   16384
#define BATCH_SECONDS 0.002
#define PENDING_LIMIT (4u << 20)

struct member {
    struct lws *wsi;
    struct room *room;
    struct member *prev, *next;
    unsigned char *pending; /* what could not be written at once */
    size_t pending_len, pending_cap;
};

struct room {
    struct member *members;
    struct room *next_dirty;
    unsigned char *batch; /* complete frames, NULL when empty */
    size_t batch_len;
};

static struct room rooms[MAX_ROOMS];
static struct room *dirty; /* rooms with a batch */
static ev_tstamp dirty_since;
static struct ev_loop *loop;
static ev_idle idle;
static ev_prepare prepare;

static void *need(void *p)
{
    if (p == NULL)
        abort();
    return p;
}

/* lws must not be written to while it holds a part of the last write. */
static int member_write(struct member *m, unsigned char *p, size_t n)
{
    if (m->pending_len == 0 && !lws_partial_buffered(m->wsi))
        return lws_write(m->wsi, p, n, LWS_WRITE_RAW) < 0 ? -1 : 0;
    if (m->pending_len + n > PENDING_LIMIT)
        return -1;
    if (m->pending_len + n > m->pending_cap) {
        m->pending_cap = (m->pending_len + n) * 2;
        m->pending = need(realloc(m->pending, m->pending_cap));
    }
    memcpy(m->pending + m->pending_len, p, n);
    m->pending_len += n;
    lws_callback_on_writable(m->wsi);
    return 0;
}

static int member_writable(struct member *m)
{
    if (m->pending_len == 0)
        return 0;
    int written = lws_write(m->wsi, m->pending, m->pending_len, LWS_WRITE_RAW);
    m->pending_len = 0; /* lws buffers what the socket did not take */
    return written < 0 ? -1 : 0;
}

static void room_flush(struct room *r)
{
    for (struct member *m = r->members; m != NULL; m = m->next)
        if (member_write(m, r->batch, r->batch_len) != 0)
            lws_set_timeout(m->wsi, PENDING_TIMEOUT_USER_OK, LWS_TO_KILL_ASYNC);
    r->batch_len = 0;
}

static void flush_all(void)
{
    struct room *next;
    for (struct room *r = dirty; r != NULL; r = next) {
        next = r->next_dirty;
        room_flush(r);
        free(r->batch);
        r->batch = NULL;
    }
    dirty = NULL;
    ev_idle_stop(loop, &idle);
}

static void on_idle(struct ev_loop *l, ev_idle *w, int events)
{
    (void)l, (void)w, (void)events;
    flush_all();
}

static void on_prepare(struct ev_loop *l, ev_prepare *w, int events)
{
    (void)w, (void)events;
    if (dirty != NULL && ev_now(l) - dirty_since > BATCH_SECONDS)
        flush_all();
}

static void room_publish(struct room *r, const unsigned char *p, size_t n)
{
    if (r->batch_len + n + 4 > BATCH_BYTES)
        room_flush(r);
    if (r->batch == NULL) {
        r->batch = need(malloc(BATCH_BYTES));
        if (dirty == NULL)
            dirty_since = ev_now(loop);
        r->next_dirty = dirty;
        dirty = r;
        ev_idle_start(loop, &idle);
    }
    unsigned char *to = r->batch + r->batch_len;
    *to++ = 0x81;
    if (n > 125) {
        *to++ = 126;
        *to++ = (unsigned char)(n >> 8);
    }
    *to++ = (unsigned char)n;
    memcpy(to, p, n);
    r->batch_len = (size_t)(to + n - r->batch);
}

static int on_open(struct lws *wsi, struct member *m)
{
    char uri[64];
    if (lws_hdr_copy(wsi, uri, sizeof uri, WSI_TOKEN_GET_URI) <= 0 || strncmp(uri, "/r/", 3) != 0)
        return -1;
    *m = (struct member){.wsi = wsi, .room = &rooms[strtoul(uri + 3, NULL, 10) % MAX_ROOMS]};
    m->next = m->room->members;
    if (m->next != NULL)
        m->next->prev = m;
    m->room->members = m;
    return 0;
}

static int on_close(struct member *m)
{
    if (m->room == NULL)
        return 0;
    if (m->prev != NULL)
        m->prev->next = m->next;
    else
        m->room->members = m->next;
    if (m->next != NULL)
        m->next->prev = m->prev;
    free(m->pending);
    *m = (struct member){0};
    return 0;
}

static int on_receive(struct lws *wsi, struct member *m, const unsigned char *p, size_t n)
{
    if (!lws_is_first_fragment(wsi) || !lws_is_final_fragment(wsi) || n > BATCH_BYTES / 2)
        return -1;
    room_publish(m->room, p, n);
    return 0;
}

static void tls_options(SSL_CTX *ctx)
{
    char groups[] = "X25519:P-256";
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_num_tickets(ctx, 0);
    SSL_CTX_set1_groups_list(ctx, groups);
}

static int on_event(struct lws *wsi, enum lws_callback_reasons why, void *user, void *in, size_t len)
{
    switch ((int)why) {
    case LWS_CALLBACK_OPENSSL_LOAD_EXTRA_SERVER_VERIFY_CERTS: tls_options(user); return 0;
    case LWS_CALLBACK_ESTABLISHED: return on_open(wsi, user);
    case LWS_CALLBACK_RECEIVE: return on_receive(wsi, user, in, len);
    case LWS_CALLBACK_SERVER_WRITEABLE: return member_writable(user);
    case LWS_CALLBACK_CLOSED: return on_close(user);
    }
    return 0;
}

int main(int argc, char **argv)
{
    static const struct lws_protocols protocols[] = {
        {.name = "room",
         .callback = on_event,
         .per_session_data_size = sizeof(struct member),
         .rx_buffer_size = 1024,
         .tx_packet_size = BATCH_BYTES},
        {0},
    };
    static const lws_retry_bo_t no_validity_checks; /* they are O(connections) */
    if (argc != 4) {
        fputs("usage: peer-lws PORT CERT KEY\n", stderr);
        return 2;
    }
    loop = ev_default_loop(0);
    void *loops[] = {loop};
    struct lws_context_creation_info info = {
        .port = (int)strtoul(argv[1], NULL, 10),
        .iface = "127.0.0.1",
        .protocols = protocols,
        .ssl_cert_filepath = argv[2],
        .ssl_private_key_filepath = argv[3],
        .options = LWS_SERVER_OPTION_DO_SSL_GLOBAL_INIT | LWS_SERVER_OPTION_LIBEV,
        .foreign_loops = loops,
        .retry_and_idle_policy = &no_validity_checks,
        .alpn = "http/1.1",
        .gid = (gid_t)-1,
        .uid = (uid_t)-1,
    };
    lws_set_log_level(LLL_ERR | LLL_WARN, NULL);
    struct lws_context *context = lws_create_context(&info);
    if (context == NULL)
        return 1;
    ev_idle_init(&idle, on_idle);
    ev_prepare_init(&prepare, on_prepare);
    ev_prepare_start(loop, &prepare);
    puts("ready");
    fflush(stdout);
    ev_run(loop, 0);
    lws_context_destroy(context);
    return 0;
}
