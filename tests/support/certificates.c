/* tests/support/certificates.c: making certificates with OpenSSL; what fails ends the test program. */
#include "tests/support/certificates.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

static void need(int ok, const char *what)
{
    if (ok)
        return;
    fprintf(stderr, "certificates: %s failed\n", what);
    exit(2);
}

static FILE *create(const char *dir, const char *name, const char *suffix)
{
    char path[256];
    (void)snprintf(path, sizeof path, "%s/%s%s", dir, name, suffix);
    FILE *f = fopen(path, "w");
    need(f != NULL, path);
    return f;
}

static void extend(X509 *x, int nid, const char *value)
{
    X509V3_CTX ctx;
    X509V3_set_ctx_nodb(&ctx);
    X509V3_set_ctx(&ctx, x, x, NULL, NULL, 0);
    X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
    need(e != NULL && X509_add_ext(x, e, -1) == 1, value);
    X509_EXTENSION_free(e);
}

static X509 *certificate(EVP_PKEY *key, const char *cn, int days, const X509 *issuer)
{
    static long serial = 1;
    X509 *x = X509_new();
    need(x != NULL && X509_set_version(x, X509_VERSION_3) == 1, "X509_new");
    ASN1_INTEGER_set(X509_get_serialNumber(x), serial++);
    X509_gmtime_adj(X509_getm_notBefore(x), -86400L * 100);
    X509_gmtime_adj(X509_getm_notAfter(x), 86400L * days);
    X509_set_pubkey(x, key);
    X509_NAME *name = X509_get_subject_name(x);
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)cn, -1, -1, 0);
    X509_set_issuer_name(x, issuer != NULL ? X509_get_subject_name(issuer) : name);
    return x;
}

void authority_init(struct authority *a, const char *dir, const char *name)
{
    a->key = EVP_EC_gen("P-256");
    need(a->key != NULL, "EVP_EC_gen");
    a->cert = certificate(a->key, name, 100, NULL);
    extend(a->cert, NID_basic_constraints, "critical,CA:TRUE");
    need(X509_sign(a->cert, a->key, EVP_sha256()) > 0, "X509_sign");
    (void)snprintf(a->file, sizeof a->file, "%s/%s.pem", dir, name);
    FILE *f = create(dir, name, ".pem");
    need(PEM_write_X509(f, a->cert) == 1, "PEM_write_X509");
    (void)fclose(f);
}

void authority_fini(struct authority *a)
{
    X509_free(a->cert);
    EVP_PKEY_free(a->key);
    memset(a, 0, sizeof *a);
}

void authority_sign(const struct authority *a, const char *dir, const char *name, const char *subjects, int days)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    need(key != NULL, "EVP_EC_gen");
    X509 *x = certificate(key, name, days, a->cert);
    extend(x, NID_subject_alt_name, subjects);
    need(X509_sign(x, a->key, EVP_sha256()) > 0, "X509_sign");
    FILE *f = create(dir, name, ".pem");
    need(PEM_write_X509(f, x) == 1, "PEM_write_X509");
    (void)fclose(f);
    f = create(dir, name, ".key");
    need(PEM_write_PrivateKey(f, key, NULL, NULL, 0, NULL, NULL) == 1, "PEM_write_PrivateKey");
    (void)fclose(f);
    X509_free(x);
    EVP_PKEY_free(key);
}
