/* gateway/doctor/certificate.c: is what the server sends enough for a phone that fetches nothing? */
#include <openssl/err.h>
#include <openssl/x509v3.h>

#include "base/mem.h"
#include "gateway/doctor/private.h"

#define NAME_TEXT 120
#define DAYS_LEFT 14

/* What OpenSSL makes of a chain with one set of trusted certificates. */
struct judgement {
    int error;              /* X509_V_OK, or why not */
    char stop[NAME_TEXT];   /* subject of the certificate at which it ended */
    char issuer[NAME_TEXT]; /* its issuer */
    char fetch[NAME_TEXT];  /* where it says its issuer can be had; empty: it does not */
    char lent[NAME_TEXT];   /* an intermediate that had to be taken from the trusted ones; empty: none */
};

/* CN, or the whole name where there is none. */
static void name_text(const X509_NAME *name, char ret[NAME_TEXT])
{
    int at = X509_NAME_get_index_by_NID(name, NID_commonName, -1);
    const ASN1_STRING *s = at >= 0 ? X509_NAME_ENTRY_get_data(X509_NAME_get_entry(name, at)) : NULL;
    if (s != NULL)
        (void)snprintf(ret, NAME_TEXT, "%.*s", ASN1_STRING_length(s), (const char *)ASN1_STRING_get0_data(s));
    else if (X509_NAME_oneline(name, ret, NAME_TEXT) == NULL)
        ret[0] = '\0';
}

static bool self_signed(X509 *x)
{
    return X509_self_signed(x, 0) == 1;
}

/* --- chain and trust --- */

static void issuer_url(X509 *x, char ret[NAME_TEXT])
{
    AUTHORITY_INFO_ACCESS *info = X509_get_ext_d2i(x, NID_info_access, NULL, NULL);
    ret[0] = '\0';
    for (int i = 0; i < sk_ACCESS_DESCRIPTION_num(info); i++) {
        const ACCESS_DESCRIPTION *d = sk_ACCESS_DESCRIPTION_value(info, i);
        if (OBJ_obj2nid(d->method) == NID_ad_ca_issuers && d->location->type == GEN_URI)
            (void)snprintf(ret, NAME_TEXT, "%.*s", ASN1_STRING_length(d->location->d.uniformResourceIdentifier),
                           (const char *)ASN1_STRING_get0_data(d->location->d.uniformResourceIdentifier));
    }
    for (char *p = ret; *p != '\0'; p++)
        if (*p <= ' ' || *p > '~')
            *p = '?';
    AUTHORITY_INFO_ACCESS_free(info);
}

static bool was_sent(const STACK_OF(X509) * sent, const X509 *x)
{
    for (int i = 0; i < sk_X509_num(sent); i++)
        if (X509_cmp(sk_X509_value(sent, i), x) == 0)
            return true;
    return false;
}

static void note_stop(X509_STORE_CTX *ctx, const STACK_OF(X509) * sent, struct judgement *j)
{
    const STACK_OF(X509) *built = X509_STORE_CTX_get0_chain(ctx);
    int n = sk_X509_num(built);
    X509 *last = n > 0 ? sk_X509_value(built, n - 1) : NULL;
    if (j->error != X509_V_OK && X509_STORE_CTX_get_current_cert(ctx) != NULL)
        last = X509_STORE_CTX_get_current_cert(ctx);
    if (last != NULL) {
        name_text(X509_get_subject_name(last), j->stop);
        name_text(X509_get_issuer_name(last), j->issuer);
        issuer_url(last, j->fetch);
    }
    for (int i = 0; i < n && j->lent[0] == '\0'; i++) {
        X509 *x = sk_X509_value(built, i);
        if (!self_signed(x) && !was_sent(sent, x))
            name_text(X509_get_subject_name(x), j->lent);
    }
}

/* Time and strength are judged apart, so that one trouble does not hide another. NULL file: what the system trusts. */
static struct judgement judge(const char *file, X509 *leaf, STACK_OF(X509) * sent)
{
    struct judgement j = {.error = X509_V_ERR_UNSPECIFIED};
    X509_STORE *store = X509_STORE_new();
    X509_STORE_CTX *ctx = X509_STORE_CTX_new();
    int ok = store != NULL && ctx != NULL &&
             (file != NULL ? X509_STORE_load_file(store, file) : X509_STORE_set_default_paths(store)) == 1 &&
             X509_STORE_CTX_init(ctx, store, leaf, sent) == 1;
    if (ok) {
        X509_VERIFY_PARAM *param = X509_STORE_CTX_get0_param(ctx);
        X509_VERIFY_PARAM_set_flags(param, X509_V_FLAG_NO_CHECK_TIME);
        X509_VERIFY_PARAM_set_auth_level(param, 0);
        X509_VERIFY_PARAM_set_purpose(param, X509_PURPOSE_SSL_SERVER);
        (void)X509_verify_cert(ctx);
        j.error = X509_STORE_CTX_get_error(ctx);
        note_stop(ctx, sent, &j);
    }
    X509_STORE_CTX_free(ctx);
    X509_STORE_free(store);
    ERR_clear_error();
    return j;
}

static bool has_gap(const struct judgement *j)
{
    return j->error == X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT ||
           j->error == X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY ||
           j->error == X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE || j->lent[0] != '\0';
}

/* The position of the first certificate that its successor did not issue; 0: all in order. */
static int first_out_of_order(STACK_OF(X509) * sent)
{
    for (int i = 1; i < sk_X509_num(sent); i++)
        if (X509_check_issued(sk_X509_value(sent, i), sk_X509_value(sent, i - 1)) != X509_V_OK)
            return i;
    return 0;
}

static void check_chain(const struct visit *v, STACK_OF(X509) * sent, const struct judgement *j)
{
    int n = sk_X509_num(sent), odd = first_out_of_order(sent);
    char mend[400];
    if (has_gap(j)) {
        const char *missing = j->lent[0] != '\0' ? j->lent : j->issuer;
        (void)snprintf(mend, sizeof mend,
                       "append the certificate of the missing issuer to the file of the certificate (--tls-cert is the "
                       "full chain)%s%s; if the issuer is "
                       "a private root, --doctor-ca FILE",
                       j->fetch[0] != '\0' ? ": it can be had from " : "", j->fetch);
        report_line(v->report, VERDICT_FAIL, "chain", mend, "%d sent; \"%s\" is missing%s%s%s", n, missing,
                    j->lent[0] == '\0' ? ", the issuer of \"" : "", j->lent[0] == '\0' ? j->stop : "",
                    j->lent[0] == '\0' ? "\"" : ": it is trusted here, but phones do not have it");
    } else if (odd != 0) {
        report_line(v->report, VERDICT_WARN, "chain",
                    "send the certificate first, then each one's issuer, and nothing else",
                    "%d sent, complete; but number %d is not the issuer of number %d, which old clients do not forgive",
                    n, odd + 1, odd);
    } else {
        report_line(v->report, VERDICT_OK, "chain", NULL, "%d sent, complete and in order", n);
    }
}

static void check_trust(const struct visit *v, const struct judgement *j, const char *by)
{
    static const char buy[] = "use a certificate of a public authority (Let's Encrypt, say); phones know no other";
    if (has_gap(j))
        report_line(v->report, VERDICT_SKIP, "trust", NULL, "not known while the chain has a gap");
    else if (j->error == X509_V_OK && by == NULL)
        report_line(v->report, VERDICT_OK, "trust", NULL, "by this system, through \"%s\"", j->stop);
    else if (j->error == X509_V_OK)
        report_line(v->report, VERDICT_WARN, "trust", buy, "by %.100s only, through \"%s\"", by, j->stop);
    else if (j->error == X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT)
        report_line(v->report, VERDICT_FAIL, "trust", buy, "the certificate is signed by itself");
    else if (j->error == X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN)
        report_line(v->report, VERDICT_FAIL, "trust", buy, "the root \"%s\" is not trusted by this system%s", j->stop,
                    by != NULL ? ", nor by --doctor-ca" : "");
    else
        report_line(v->report, VERDICT_FAIL, "trust", "replace the certificate", "\"%s\": %s", j->stop,
                    X509_verify_cert_error_string(j->error));
}

/* --- name, time, strength --- */

static void list_names(X509 *leaf, struct buf *ret)
{
    GENERAL_NAMES *names = X509_get_ext_d2i(leaf, NID_subject_alt_name, NULL, NULL);
    for (int i = 0; i < sk_GENERAL_NAME_num(names) && ret->n < 200; i++) {
        const GENERAL_NAME *g = sk_GENERAL_NAME_value(names, i);
        if (g->type != GEN_DNS)
            continue;
        buf_append_str(ret, ret->n != 0 ? ", " : "");
        buf_append(ret, (struct slice){(const char *)ASN1_STRING_get0_data(g->d.dNSName),
                                       (size_t)ASN1_STRING_length(g->d.dNSName)});
    }
    GENERAL_NAMES_free(names);
}

static void check_name(const struct visit *v, X509 *leaf)
{
    const struct target *t = v->target;
    struct buf names = BUF_INIT;
    bool matches = t->literal ? X509_check_ip_asc(leaf, t->host, 0) == 1
                              : X509_check_host(leaf, t->host, 0, X509_CHECK_FLAG_NEVER_CHECK_SUBJECT, NULL) == 1;
    list_names(leaf, &names);
    struct slice shown = names.n != 0 ? buf_slice(&names) : SLICE("no name at all");
    if (matches)
        report_line(v->report, VERDICT_OK, "name", NULL, "the certificate is for %s", t->host);
    else
        report_line(v->report, VERDICT_FAIL, "name",
                    "get a certificate that has this name in subjectAltName, or use the name that it has",
                    "the certificate is for %.*s, not for %s", SLICE_FMT(shown), t->host);
    buf_fini(&names);
}

/* Of all that were sent: a phone looks at each of them. */
static void check_validity(const struct visit *v, STACK_OF(X509) * sent)
{
    int days = 0, seconds = 0, least = 0;
    char who[NAME_TEXT];
    for (int i = 0; i < sk_X509_num(sent); i++) {
        X509 *x = sk_X509_value(sent, i);
        name_text(X509_get_subject_name(x), who);
        if (X509_cmp_current_time(X509_get0_notBefore(x)) > 0) {
            report_line(v->report, VERDICT_FAIL, "validity",
                        "wait, or look at the clock of who issued it, and at this machine's", "\"%s\" is not valid yet",
                        who);
            return;
        }
        if (ASN1_TIME_diff(&days, &seconds, NULL, X509_get0_notAfter(x)) != 1 || days < 0 || seconds < 0) {
            report_line(v->report, VERDICT_FAIL, "validity", "renew it, and send SIGHUP to the gateways",
                        "\"%s\" has expired, %d days ago", who, -days);
            return;
        }
        least = i == 0 || days < least ? days : least;
    }
    if (least < DAYS_LEFT)
        report_line(v->report, VERDICT_WARN, "validity",
                    "renew it, and let a timer do that from now on; SIGHUP makes the gateways read it", "%d days left",
                    least);
    else
        report_line(v->report, VERDICT_OK, "validity", NULL, "%d days left", least);
}

/* NULL: nothing wrong with it. Roots are trusted for what they are, not for their signature. */
static const char *weakness(X509 *x, char *ret, size_t size)
{
    EVP_PKEY *key = X509_get0_pubkey(x);
    int digest = NID_undef, bits = key != NULL ? EVP_PKEY_get_bits(key) : 0;
    int type = key != NULL ? EVP_PKEY_get_base_id(key) : EVP_PKEY_NONE;
    (void)X509_get_signature_info(x, &digest, NULL, NULL, NULL);
    if (type != EVP_PKEY_RSA && type != EVP_PKEY_RSA_PSS && type != EVP_PKEY_EC)
        (void)snprintf(ret, size, "a key that is neither RSA nor ECDSA");
    else if (bits < (type == EVP_PKEY_EC ? 256 : 2048))
        (void)snprintf(ret, size, "a key of %d bits", bits);
    else if (!self_signed(x) && (digest == NID_sha1 || digest == NID_md5 || digest == NID_md5_sha1))
        (void)snprintf(ret, size, "a signature with %s", OBJ_nid2sn(digest));
    else
        return NULL;
    return ret;
}

static void check_strength(const struct visit *v, STACK_OF(X509) * sent)
{
    char what[80], who[NAME_TEXT];
    for (int i = 0; i < sk_X509_num(sent); i++) {
        X509 *x = sk_X509_value(sent, i);
        if (weakness(x, what, sizeof what) == NULL)
            continue;
        name_text(X509_get_subject_name(x), who);
        report_line(v->report, VERDICT_FAIL, "key",
                    "get a certificate with an RSA key of 2048 bits or ECDSA P-256, signed with SHA-256",
                    "\"%s\" has %s", who, what);
        return;
    }
    const EVP_PKEY *key = X509_get0_pubkey(sk_X509_value(sent, 0));
    report_line(v->report, VERDICT_OK, "key", NULL, "%s, %d bits", EVP_PKEY_get0_type_name(key),
                EVP_PKEY_get_bits(key));
}

enum err certificate_file_check(const char *file, struct error *reterr)
{
    X509_STORE *store = X509_STORE_new();
    int ok = store != NULL && X509_STORE_load_file(store, file) == 1;
    X509_STORE_free(store);
    ERR_clear_error();
    return ok ? OK : fail(reterr, ERR_BAD_REQUEST, "doctor-ca: %.120s has no certificates in PEM", file);
}

void certificate_check(const struct visit *v, SSL *ssl)
{
    X509 *leaf = SSL_get0_peer_certificate(ssl);
    STACK_OF(X509) *sent = SSL_get_peer_cert_chain(ssl);
    const char *file = v->options->ca_file, *by = NULL;
    if (leaf == NULL || sk_X509_num(sent) < 1) {
        report_line(v->report, VERDICT_FAIL, "chain", "configure a certificate", "the server sends no certificate");
        return;
    }
    struct judgement j = judge(NULL, leaf, sent);
    if (file != NULL && (j.error != X509_V_OK || has_gap(&j))) {
        j = judge(file, leaf, sent);
        by = file;
    }
    check_chain(v, sent, &j);
    check_trust(v, &j, by);
    check_name(v, leaf);
    check_validity(v, sent);
    check_strength(v, sent);
}
