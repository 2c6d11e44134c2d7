/* tests/support/certificates.h: an authority of the test's own, and certificates of every kind by it, as PEM files. */
#ifndef XD_TESTS_CERTIFICATES_H
#define XD_TESTS_CERTIFICATES_H

#include <openssl/x509.h>

struct authority {
    X509 *cert;
    EVP_PKEY *key;
    char file[128]; /* its certificate */
};

/* Files are DIR/NAME.pem, keys DIR/NAME.key. */
void authority_init(struct authority *a, const char *dir, const char *name);
void authority_fini(struct authority *a);
/* subjects: as in OpenSSL's subjectAltName, "DNS:localhost,IP:127.0.0.1". Valid from 100 days ago for `days` from now, which may be negative. */
void authority_sign(const struct authority *a, const char *dir, const char *name, const char *subjects, int days);

#endif
