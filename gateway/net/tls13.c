/* gateway/net/tls13.c: a TLS 1.3 connection after its handshake: records of a socket. */
#include <string.h>

#include "gateway/net/net_private.h"

/* --- writing --- */

/* A record of n bytes, at most RECORD_HEADER, that is not data. */
static bool send_small(struct socket *s, enum record_type type, const char *p, size_t n)
{
    char record[RECORD_HEADER + RECORD_OVERHEAD];
    return socket_out(s, record, records_seal(s->records, type, p, n, record));
}

static bool send_alert(struct socket *s, bool fatal, enum tls_alert alert)
{
    char p[] = {fatal ? 2 : 1, (char)alert};
    return send_small(s, RECORD_ALERT, p, sizeof p);
}

static bool update_keys(struct socket *s)
{
    char record[RECORD_HEADER + RECORD_OVERHEAD];
    s->owes_update = false;
    return socket_out(s, record, records_update_own(s->records, record));
}

/* Seals the beginning of p as so many records as fit into net->sealed: they are sent as one. */
static size_t seal(struct socket *s, const char *p, size_t n, size_t *ret_sealed)
{
    size_t done = 0, sealed = 0;
    while (done < n && sealed + RECORD_PLAIN_MAX + RECORD_OVERHEAD <= sizeof s->net->sealed) {
        size_t piece = n - done < RECORD_PLAIN_MAX ? n - done : RECORD_PLAIN_MAX;
        sealed += records_seal(s->records, RECORD_DATA, p + done, piece, s->net->sealed + sealed);
        done += piece;
    }
    *ret_sealed = sealed;
    return done;
}

ssize_t tls13_write(struct socket *s, const char *p, size_t n)
{
    size_t done = 0, sealed;
    bool ok = s->out_n != 0 || !(s->owes_update || records_worn(s->records)) || update_keys(s);
    while (ok && done < n && s->out_n == 0) {
        done += seal(s, p + done, n - done, &sealed);
        ok = socket_out(s, s->net->sealed, sealed);
    }
    if (ok)
        return (ssize_t)done;
    s->tls_silent = true;
    socket_kill(s, "reset");
    return -1;
}

void tls13_goodbye(struct socket *s)
{
    (void)send_alert(s, false, ALERT_CLOSE_NOTIFY);
}

/* --- reading --- */

static void over(struct socket *s, const char *detail)
{
    s->tls_silent = true;
    net_refused(&s->address, s->port, DROP_TLS, detail);
    socket_close(s, "tls");
}

static void refuse(struct socket *s, enum tls_alert alert)
{
    if (!s->tls_silent)
        (void)send_alert(s, true, alert);
    over(s, SSL_alert_desc_string_long(alert));
}

/* RFC 8446 §6: but for the two that end a connection in order, every alert is fatal. */
static void on_alert(struct socket *s, const struct record *r)
{
    if (r->n != 2) {
        refuse(s, ALERT_UNEXPECTED_MESSAGE);
    } else if (r->p[1] == ALERT_CLOSE_NOTIFY) {
        s->eof = true;
        if (!socket_no_more(s))
            socket_close(s, "peer");
    } else if (r->p[1] != ALERT_USER_CANCELED) {
        over(s, SSL_alert_desc_string_long((unsigned char)r->p[1]));
    }
}

/* The only message a client may send after the handshake is a key update: we ask for no certificates. One that wants ours too gets it before the next data, and
 * many that came meanwhile get one (RFC 8446 §4.6.3): who asks again and again, and reads nothing, makes us keep nothing. */
static void on_handshake(struct socket *s, const struct record *r)
{
    bool asked = false;
    if (!records_key_update(s->records, (struct slice){r->p, r->n}, &asked))
        refuse(s, ALERT_UNEXPECTED_MESSAGE);
    else if (asked)
        s->owes_update = true;
}

static bool reading(const struct socket *s)
{
    return s->state < SOCKET_CLOSING && !s->paused;
}

void tls13_input(struct socket *s, char **p, size_t *n)
{
    struct record r;
    while (reading(s) && *n > 0) {
        enum record_result result = records_take(s->records, p, n, &r);
        if (result == RECORD_BAD)
            refuse(s, s->records->alert);
        else if (result == RECORD_READY && r.type == RECORD_ALERT)
            on_alert(s, &r);
        else if (result == RECORD_READY && r.type == RECORD_HANDSHAKE)
            on_handshake(s, &r);
        else if (result == RECORD_READY && r.n > 0)
            socket_plain(s, r.p, r.n);
    }
}
