/* gateway/doctor/http.c: plain requests through the proxy: health, readiness, and the server's clock. */
#include <stdlib.h>

#include "gateway/doctor/private.h"

#define SKEW_WARN_S 5
#define SKEW_FAIL_S 300

enum err http_exchange(struct probe *probe, struct slice request, struct buf *ret_in, struct answer *ret,
                       struct error *reterr)
{
    bool more = true, end = false;
    probe_step(probe, DOCTOR_STEP_MS);
    enum err e = probe_send(probe, request, reterr);
    while (e == OK && more) {
        e = probe_receive(probe, ret_in, &end, reterr);
        if (e == OK)
            e = answer_parse(buf_slice(ret_in), ret, &more, reterr);
        if (e == OK && more && end)
            e = fail(reterr, ERR_UNAVAILABLE, "the server closed the connection without an answer");
        else if (e == OK && more && ret_in->n > HEAD_MAX)
            e = fail(reterr, ERR_TOO_LARGE, "the head of the answer has more than %d bytes", HEAD_MAX);
    }
    return e;
}

static enum err get(const struct visit *v, const char *path, struct buf *ret_in, struct answer *ret,
                    struct error *reterr)
{
    struct probe probe;
    struct buf request = BUF_INIT;
    enum err e = tls_open_http(v, &probe, reterr);
    if (e != OK)
        return e;
    buf_printf(&request, "GET %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: xindao-doctor\r\nConnection: close\r\n\r\n", path,
               v->target->authority);
    e = http_exchange(&probe, buf_slice(&request), ret_in, ret, reterr);
    buf_fini(&request);
    probe_close(&probe);
    return e;
}

static void check_clock(const struct visit *v, const struct answer *a, time_t local)
{
    static const char mend[] = "run a time service (chrony, systemd-timesyncd) on both machines; the expiry of tokens "
                               "and certificates is on these clocks";
    struct slice text = answer_header(a, "Date", NULL);
    time_t there;
    if (text.p == NULL || !answer_date(text, &there)) {
        report_line(v->report, VERDICT_SKIP, "clock", NULL, "the answer to /healthz has no Date that could be read");
        return;
    }
    long skew = (long)(there - local), size = labs(skew);
    report_line(v->report,
                size > SKEW_FAIL_S   ? VERDICT_FAIL
                : size > SKEW_WARN_S ? VERDICT_WARN
                                     : VERDICT_OK,
                "clock", size > SKEW_WARN_S ? mend : NULL, "the server's is %ld s %s this machine's", size,
                skew < 0 ? "behind" : "ahead of");
}

static void check_path(const struct visit *v, const char *path, const char *mend)
{
    struct buf in = BUF_INIT;
    struct answer a;
    struct error why;
    const char *what = path + 1;
    enum err e = get(v, path, &in, &a, &why);
    if (e != OK)
        report_line(v->report, VERDICT_FAIL, what, "look at the proxy's log: it ends TLS but does not pass requests on",
                    "%s", why.text);
    else if (a.status == 200)
        report_line(v->report, VERDICT_OK, what, NULL, "200");
    else if (a.status == 404 || a.status == 403 || a.status == 401)
        report_line(v->report, VERDICT_WARN, what,
                    "nothing, if the proxy hides it on purpose; else let it pass this path on", "%d", a.status);
    else
        report_line(v->report, VERDICT_FAIL, what, mend, "%d instead of 200", a.status);
    if (e == OK && what[0] == 'h')
        check_clock(v, &a, time(NULL));
    buf_fini(&in);
}

void http_check(const struct visit *v)
{
    check_path(v, "/healthz", "the proxy has no gateway that answers: are they running, and does it know them?");
    check_path(v, "/readyz", "ask a gateway itself, its answer says why: it drains, or it cannot reach Redis");
}
