/* gateway/doctor/tls.c: which versions and ciphers a server speaks, each tried on a connection of its own. */
#include <openssl/err.h>

#include "gateway/doctor/private.h"

/* What the profile "intermediate" has of suites with ECDHE: the only ones of TLS 1.2 that iOS takes (App Transport Security). */
#define GOOD_CIPHERS                                                                                                   \
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:"                         \
    "ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305:@SECLEVEL=0"
/* Weak is what the profile does not have; DHE with AEAD it does. Level 0: this is an examination, not a conversation. */
#define EVERY_CIPHER "ALL:!aNULL:!eNULL:!PSK:!SRP:@SECLEVEL=0"
#define WEAK_CIPHERS                                                                                                   \
    "ALL:!aNULL:!eNULL:!PSK:!SRP:!ECDHE-ECDSA-AES128-GCM-SHA256:!ECDHE-RSA-AES128-GCM-SHA256:"                         \
    "!ECDHE-ECDSA-AES256-GCM-SHA384:!ECDHE-RSA-AES256-GCM-SHA384:!ECDHE-ECDSA-CHACHA20-POLY1305:"                      \
    "!ECDHE-RSA-CHACHA20-POLY1305:!DHE-RSA-AES128-GCM-SHA256:!DHE-RSA-AES256-GCM-SHA384:"                              \
    "!DHE-RSA-CHACHA20-POLY1305:@SECLEVEL=0"

/* --- one handshake --- */

static SSL_CTX *context_for(const struct offer *o)
{
    static const unsigned char http_1_1[] = "\x08http/1.1";
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    if (ctx == NULL)
        return NULL;
    SSL_CTX_set_verify(ctx, SSL_VERIFY_NONE, NULL); /* certificate.c looks closer than one error code */
    SSL_CTX_set_options(ctx, SSL_OP_LEGACY_SERVER_CONNECT);
    if (SSL_CTX_set_min_proto_version(ctx, o->min != 0 ? o->min : TLS1_VERSION) != 1 ||
        SSL_CTX_set_max_proto_version(ctx, o->max) != 1 ||
        SSL_CTX_set_cipher_list(ctx, o->ciphers != NULL ? o->ciphers : EVERY_CIPHER) != 1 ||
        (o->alpn && SSL_CTX_set_alpn_protos(ctx, http_1_1, sizeof http_1_1 - 1) != 0)) {
        SSL_CTX_free(ctx);
        return NULL;
    }
    return ctx;
}

static SSL *session_for(const struct visit *v, const struct offer *o)
{
    char name[HOST_MAX + 1]; /* OpenSSL's macro casts const away */
    memcpy(name, v->target->host, sizeof name);
    SSL_CTX *ctx = context_for(o);
    SSL *ssl = ctx != NULL ? SSL_new(ctx) : NULL;
    SSL_CTX_free(ctx); /* ssl holds it */
    if (ssl != NULL && !o->no_name && !v->target->literal && SSL_set_tlsext_host_name(ssl, name) != 1) {
        SSL_free(ssl);
        return NULL;
    }
    return ssl;
}

enum err tls_open(const struct visit *v, const struct offer *o, struct probe *ret, struct error *reterr)
{
    struct probe probe;
    SSL *ssl = session_for(v, o);
    ERR_clear_error();
    if (ssl == NULL)
        return fail(reterr, ERR_INTERNAL, "this OpenSSL cannot be told to offer that");
    enum err e = probe_connect(v->address, &probe, reterr);
    if (e != OK) {
        SSL_free(ssl);
        return e;
    }
    e = probe_handshake(&probe, ssl, reterr);
    if (e != OK)
        probe_close(&probe);
    else
        *ret = probe;
    return e;
}

enum err tls_open_http(const struct visit *v, struct probe *ret, struct error *reterr)
{
    return tls_open(v, &(struct offer){.alpn = !v->no_alpn}, ret, reterr);
}

/* --- the checks --- */

static void check_1_2(const struct visit *v)
{
    static const char versions[] = "allow TLS 1.2 in whatever ends TLS: older Android and iOS know nothing newer";
    struct probe probe;
    struct error e;
    if (tls_open(v, &(struct offer){TLS1_2_VERSION, TLS1_2_VERSION, GOOD_CIPHERS, false, false}, &probe, &e) == OK) {
        report_line(v->report, VERDICT_OK, "tls 1.2", NULL, "spoken, %s", SSL_get_cipher_name(probe.ssl));
        probe_close(&probe);
        return;
    }
    if (tls_open(v, &(struct offer){.min = TLS1_2_VERSION, .max = TLS1_2_VERSION}, &probe, &e) != OK) {
        report_line(v->report, VERDICT_FAIL, "tls 1.2", versions, "refused: %s", e.text);
        return;
    }
    report_line(v->report, VERDICT_FAIL, "tls 1.2",
                "allow ECDHE with AES-GCM or CHACHA20-POLY1305 (Mozilla's profile intermediate)",
                "spoken, but without any of the ciphers that iOS takes; it chose %s", SSL_get_cipher_name(probe.ssl));
    probe_close(&probe);
}

static void check_1_3(const struct visit *v)
{
    struct probe probe;
    struct error e;
    if (tls_open(v, &(struct offer){.min = TLS1_3_VERSION, .max = TLS1_3_VERSION}, &probe, &e) != OK) {
        report_line(v->report, VERDICT_WARN, "tls 1.3",
                    "allow TLS 1.3: a round trip less for every phone that connects", "not spoken: %s", e.text);
        return;
    }
    report_line(v->report, VERDICT_OK, "tls 1.3", NULL, "spoken, %s", SSL_get_cipher_name(probe.ssl));
    probe_close(&probe);
}

static void check_old(const struct visit *v)
{
    struct probe probe;
    struct error e;
    enum err code = tls_open(v, &(struct offer){.min = TLS1_VERSION, .max = TLS1_1_VERSION}, &probe, &e);
    if (code == ERR_INTERNAL || code == ERR_TIMEOUT) {
        report_line(v->report, VERDICT_SKIP, "tls 1.0, 1.1", NULL, "not known: %s", e.text);
    } else if (code != OK) {
        report_line(v->report, VERDICT_OK, "tls 1.0, 1.1", NULL, "refused");
    } else {
        report_line(v->report, VERDICT_WARN, "tls 1.0, 1.1", "set TLS 1.2 as the least", "%s is still spoken",
                    SSL_get_version(probe.ssl));
        probe_close(&probe);
    }
}

static void check_weak(const struct visit *v)
{
    struct probe probe;
    struct error e;
    enum err code =
        tls_open(v, &(struct offer){TLS1_2_VERSION, TLS1_2_VERSION, WEAK_CIPHERS, false, false}, &probe, &e);
    if (code == ERR_INTERNAL || code == ERR_TIMEOUT) {
        report_line(v->report, VERDICT_SKIP, "weak ciphers", NULL, "not known: %s", e.text);
    } else if (code != OK) {
        report_line(v->report, VERDICT_OK, "weak ciphers", NULL, "refused (CBC, RSA key exchange, and older)");
    } else {
        report_line(v->report, VERDICT_WARN, "weak ciphers",
                    "allow what Mozilla's profile intermediate has, and nothing else", "%s is taken with TLS 1.2",
                    SSL_get_cipher_name(probe.ssl));
        probe_close(&probe);
    }
}

static void check_alpn(struct visit *v)
{
    struct probe probe;
    struct error e;
    const unsigned char *chosen = NULL;
    unsigned n = 0;
    if (tls_open(v, &(struct offer){.alpn = true}, &probe, &e) != OK) {
        v->no_alpn = true;
        report_line(v->report, VERDICT_FAIL, "alpn", "let the proxy offer http/1.1: browsers open WebSockets with it",
                    "http/1.1 is refused: %s", e.text);
        return;
    }
    SSL_get0_alpn_selected(probe.ssl, &chosen, &n);
    if (n == 0)
        report_line(v->report, VERDICT_OK, "alpn", NULL, "not spoken, so http/1.1 it is");
    else
        report_line(v->report, VERDICT_OK, "alpn", NULL, "%.*s", (int)n, (const char *)chosen);
    probe_close(&probe);
}

static void subject_of(const X509 *x, char *ret, int size)
{
    ret[0] = '\0';
    if (x != NULL)
        (void)X509_NAME_get_text_by_NID(X509_get_subject_name(x), NID_commonName, ret, size);
}

/* What is served to a client that does not say the name; with is the certificate for one that does. */
static void check_name_indication(const struct visit *v, const X509 *with)
{
    static const char mend[] = "let this name be the default certificate, for monitors and old clients that send none";
    struct probe probe;
    struct error e;
    char other[100];
    if (v->target->literal)
        return;
    if (tls_open(v, &(struct offer){.no_name = true}, &probe, &e) != OK) {
        report_line(v->report, VERDICT_WARN, "sni", mend, "a client that does not send the name gets no connection: %s",
                    e.text);
        return;
    }
    const X509 *without = SSL_get0_peer_certificate(probe.ssl);
    subject_of(without, other, sizeof other);
    if (without != NULL && with != NULL && X509_cmp(without, with) == 0)
        report_line(v->report, VERDICT_OK, "sni", NULL, "the same certificate with and without the name");
    else
        report_line(v->report, VERDICT_WARN, "sni", mend,
                    "a client that does not send the name gets the certificate of \"%s\"", other);
    probe_close(&probe);
}

static void explain(const struct visit *v, const struct error *e)
{
    const char *mend =
        "look at the log of what ends TLS there, at its certificate for this name, and whether it waits for a PROXY "
        "header that nobody sends (--proxy-protocol)";
    if (e->code == ERR_BAD_REQUEST)
        mend = "this port speaks plain text: give the gateway --tls-cert and --tls-key, or point the URL at the "
               "proxy's TLS port";
    else if (e->code == ERR_TIMEOUT)
        mend = "something accepts and says nothing: a load balancer without servers, or one that waits for a PROXY "
               "header; or it speaks plain text";
    report_line(v->report, VERDICT_FAIL, "tls", mend, "no handshake: %s", e->text);
}

bool tls_check(struct visit *v)
{
    struct probe probe;
    struct error e;
    if (tls_open(v, &(struct offer){0}, &probe, &e) != OK) {
        explain(v, &e);
        return false;
    }
    report_line(v->report, VERDICT_OK, "tls", NULL, "%s, %s", SSL_get_version(probe.ssl),
                SSL_get_cipher_name(probe.ssl));
    check_1_2(v);
    check_1_3(v);
    check_old(v);
    check_weak(v);
    check_alpn(v);
    check_name_indication(v, SSL_get0_peer_certificate(probe.ssl));
    certificate_check(v, probe.ssl);
    probe_close(&probe);
    return true;
}
