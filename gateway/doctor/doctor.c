/* gateway/doctor/doctor.c: the order of the examination. */
#include <signal.h>

#include "gateway/doctor/private.h"

struct patient {
    struct target target;
    struct address addresses[ADDRESSES_MAX];
    size_t count;
};

static enum err given_addresses(const struct doctor_options *o, struct patient *p, struct error *reterr)
{
    if (o->address_count > ADDRESSES_MAX)
        return fail(reterr, ERR_BAD_REQUEST, "doctor-address: %zu addresses, at most %d are checked", o->address_count,
                    ADDRESSES_MAX);
    for (size_t i = 0; i < o->address_count; i++)
        if (address_parse(o->addresses[i], p->target.port, &p->addresses[i]) != OK)
            return fail(reterr, ERR_BAD_REQUEST, "doctor-address: \"%.60s\" is not an IPv4 or IPv6 address",
                        o->addresses[i]);
    p->count = o->address_count;
    return OK;
}

static void check_names(const struct doctor_options *o, struct patient *p, struct report *r)
{
    struct error why;
    size_t all = 0;
    if (o->address_count != 0) {
        report_line(r, VERDICT_SKIP, "dns", NULL, "not asked: --doctor-address says where to connect");
        return;
    }
    enum err e = address_lookup(p->target.host, p->target.port, p->addresses, &all, &why);
    p->count = all < ADDRESSES_MAX ? all : ADDRESSES_MAX;
    if (e != OK)
        report_line(
            r, VERDICT_FAIL, "dns",
            e == ERR_TIMEOUT
                ? "try again; then look at this machine's /etc/resolv.conf, and at the name servers of the domain"
                : "add an A record (and AAAA) for this name, or wait until it is known everywhere",
            "%s: %s", p->target.host, why.text);
    else if (all > ADDRESSES_MAX)
        report_line(r, VERDICT_WARN, "dns", "check the others with --doctor-address",
                    "%zu addresses, the first %d are checked", all, ADDRESSES_MAX);
    else if (!p->target.literal)
        report_line(r, VERDICT_OK, "dns", NULL, "%zu %s, the first is %s", all, all == 1 ? "address" : "addresses",
                    p->addresses[0].text);
}

/* False: this machine cannot reach such addresses, so nothing is known about this one. */
static bool check_address(struct visit *v)
{
    struct probe l;
    struct error why;
    uint64_t since = now_ms();
    enum err e = probe_connect(v->address, &l, &why);
    if (e == ERR_UNSUPPORTED) {
        report_line(v->report, VERDICT_SKIP, "tcp", NULL, "not checked: this machine has no way to %s: %s",
                    v->address->text, why.text);
        return false;
    }
    if (e != OK) {
        report_line(v->report, VERDICT_FAIL, "tcp",
                    "is the load balancer running, and do firewall and security group let this port in? An address "
                    "that is not in use must leave DNS",
                    "%s port %u: %s", v->address->text, (unsigned)v->target->port, why.text);
        return true;
    }
    report_line(v->report, VERDICT_OK, "tcp", NULL, "%s port %u, connected in %u ms", v->address->text,
                (unsigned)v->target->port, (unsigned)(now_ms() - since));
    probe_close(&l);
    if (!tls_check(v))
        return true;
    http_check(v);
    websocket_check(v);
    return true;
}

static void examine(const struct doctor_options *o, struct patient *p, struct report *r)
{
    target_check(&p->target, r);
    if (!p->target.secure)
        return;
    check_names(o, p, r);
    bool reached = p->count == 0;
    for (size_t i = 0; i < p->count; i++) {
        struct visit v = {.target = &p->target, .address = &p->addresses[i], .options = o, .report = r};
        r->where = p->count > 1 ? p->addresses[i].text : NULL;
        reached = check_address(&v) || reached;
    }
    r->where = NULL;
    if (!reached)
        report_line(r, VERDICT_FAIL, "tcp", "run this on a machine that reaches them", "no address could be checked");
}

enum err doctor_run(const struct doctor_options *o, FILE *out, bool *ret_failed, struct error *reterr)
{
    struct patient p = {0};
    struct report r = {.out = out};
    enum err e = target_parse(o->url, &p.target, reterr);
    if (e == OK)
        e = given_addresses(o, &p, reterr);
    if (e == OK && o->ca_file != NULL)
        e = certificate_file_check(o->ca_file, reterr);
    if (e != OK)
        return e;
    (void)signal(SIGPIPE, SIG_IGN);
    examine(o, &p, &r);
    report_summary(&r, p.target.authority);
    *ret_failed = r.counts[VERDICT_FAIL] != 0;
    return OK;
}
