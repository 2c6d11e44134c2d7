/* gateway/doctor/report.h: the lines of a diagnosis, and how many of each kind. */
#ifndef XD_DOCTOR_REPORT_H
#define XD_DOCTOR_REPORT_H

#include <stdio.h>

enum verdict { VERDICT_OK, VERDICT_WARN, VERDICT_FAIL, VERDICT_SKIP, VERDICT_COUNT };

struct report {
    FILE *out;
    const char *where; /* named in every line; NULL: nothing to tell apart */
    unsigned counts[VERDICT_COUNT];
};

/* One line: verdict, what was looked at, what was found, and how to mend it (NULL: nothing to mend). What was found may hold bytes of the peer: what is
 * not printable ASCII becomes a question mark, and it is cut at 400 bytes. */
void report_line(struct report *r, enum verdict verdict, const char *what, const char *mend, const char *fmt, ...)
    __attribute__((format(printf, 5, 6)));
void report_summary(const struct report *r, const char *subject);

#endif
