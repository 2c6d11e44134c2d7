/* gateway/doctor/report.c: the lines of a diagnosis. */
#include "gateway/doctor/report.h"

#include <stdarg.h>

#define FOUND_MAX 400

static const char *const names[VERDICT_COUNT] = {
    [VERDICT_OK] = "ok", [VERDICT_WARN] = "warn", [VERDICT_FAIL] = "FAIL", [VERDICT_SKIP] = "skip"};

void report_line(struct report *r, enum verdict verdict, const char *what, const char *mend, const char *fmt, ...)
{
    char found[FOUND_MAX + 1];
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(found, sizeof found, fmt, args);
    va_end(args);
    for (char *p = found; *p != '\0'; p++)
        if (*p < ' ' || *p > '~')
            *p = '?';
    fprintf(r->out, "%-4s  %-15s ", names[verdict], what);
    if (r->where != NULL)
        fprintf(r->out, "[%s] ", r->where);
    fprintf(r->out, "— %s", found);
    if (mend != NULL)
        fprintf(r->out, "; mend: %s", mend);
    fputc('\n', r->out);
    (void)fflush(r->out);
    r->counts[verdict]++;
}

void report_summary(const struct report *r, const char *subject)
{
    fprintf(r->out, "\n%s: %u ok, %u warnings, %u failed, %u skipped\n", subject, r->counts[VERDICT_OK],
            r->counts[VERDICT_WARN], r->counts[VERDICT_FAIL], r->counts[VERDICT_SKIP]);
}
