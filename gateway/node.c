/* gateway/node.c: the life of one node process. */
#include "gateway/node.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>

#include "base/log.h"
#include "base/random.h"
#include "gateway/gateway.h"
#include "gateway/keyring.h"
#include "gateway/metrics.h"
#include "gateway/mina.h"
#include "gateway/net/net.h"
#include "gateway/tunnel.h"

#define SPARE_FILES 64u /* sockets to the store, listeners, logs */

struct node {
    struct config *cfg;
    const struct invocation *how;
    struct loop *loop;
    struct net *net;
    struct gateway *gateway;
    struct timer drain_deadline, linger;
    struct keyring keyring;
    bool draining;
    int status;
};

static void stop(struct node *n, int status)
{
    n->status = status;
    loop_ev_stop(n->loop);
}

/* --- stopping --- */

static void on_linger(struct timer *t)
{
    struct node *n = container_of(t, struct node, linger);
    if (net_open_count(n->net) == 0)
        stop(n, 0);
    else
        timer_start(t, 20);
}

static void on_drained(void *arg)
{
    struct node *n = arg;
    LOG(INFO, "drained", "open=%zu", net_open_count(n->net));
    timer_start(&n->linger, 1);
}

static void on_drain_deadline(struct timer *t)
{
    struct node *n = container_of(t, struct node, drain_deadline);
    LOG(WARN, "drain time is over", "open=%zu sessions=%u", net_open_count(n->net), gateway_session_count(n->gateway));
    stop(n, 0);
}

static void on_stop_signal(void *arg)
{
    struct node *n = arg;
    if (n->draining) {
        LOG(WARN, "second signal: stopping now", "open=%zu", net_open_count(n->net));
        stop(n, 1);
        return;
    }
    n->draining = true;
    LOG(INFO, "draining", "grace_s=%u sessions=%u", n->cfg->drain_time_s, gateway_session_count(n->gateway));
    timer_start(&n->drain_deadline, n->cfg->drain_time_s * (uint64_t)1000);
    net_stop_accepting(n->net);
    gateway_drain(n->gateway, on_drained, n);
}

/* --- reloading --- */

static void on_reload_signal(void *arg)
{
    struct node *n = arg;
    struct config fresh = {0};
    struct error error = {0};
    enum config_action action;
    char ignored[512] = "";
    if (config_load(n->how->argc, n->how->argv, getenv, &fresh, &action, &error) != OK) {
        LOG(ERROR, "reload refused: nothing has changed", "why=%s", log_q(slice_str(error.text)));
        return;
    }
    config_reload(n->cfg, &fresh, ignored, sizeof ignored);
    config_fini(&fresh);
    log_setup(n->cfg->log_level, n->cfg->log_format, n->gateway->node);
    if (gateway_reload(n->gateway, &error) != OK)
        LOG(ERROR, "policies not reloaded", "why=%s", log_q(slice_str(error.text)));
    if (gateway_reload_backend(n->gateway, &error) != OK)
        LOG(ERROR, "keys for the backend not reloaded: the old ones stay", "why=%s", log_q(slice_str(error.text)));
    if (gateway_reload_auth(n->gateway, &error) != OK)
        LOG(ERROR, "token keys not reloaded: the old ones stay", "why=%s", log_q(slice_str(error.text)));
    if (gateway_reload_api_keys(n->gateway, &error) != OK)
        LOG(ERROR, "API keys not reloaded: the old ones stay", "why=%s", log_q(slice_str(error.text)));
    if (tunnels_reload(n->gateway, &error) != OK)
        LOG(ERROR, "tenants of tunnels not reloaded: the old ones stay", "why=%s", log_q(slice_str(error.text)));
    if (mina_reload(n->gateway, &error) != OK)
        LOG(ERROR, "WeChat apps not reloaded: the old ones stay", "why=%s", log_q(slice_str(error.text)));
    if (!n->cfg->insecure && net_reload_tls(n->net, &error) != OK)
        LOG(ERROR, "certificate not reloaded: the old one stays", "why=%s", log_q(slice_str(error.text)));
    if (ignored[0] != '\0')
        LOG(WARN, "these options need a restart", "options=%s", log_q(slice_str(ignored)));
    LOG(INFO, "reloaded", "times=%llu", (unsigned long long)metrics->reloads);
}

/* --- starting --- */

static void raise_file_limit(const struct config *cfg)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return;
    limit.rlim_cur = limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < (rlim_t)cfg->max_connections + SPARE_FILES)
        LOG(WARN, "the open-files limit is below max-connections", "limit=%llu max_connections=%u",
            (unsigned long long)limit.rlim_cur, cfg->max_connections);
}

static void on_lag(void *arg, uint64_t us)
{
    struct node *n = arg;
    metrics_lag(us);
    net_lag(n->net, us);
}

static void on_ticket_keys(void *owner, const struct secret_record *secrets, size_t n)
{
    net_ticket_keys(((struct node *)owner)->net, secrets, n);
}

static bool build(struct node *n, const char *id, struct error *reterr)
{
    n->loop = loop_ev_create();
    timer_init(&n->drain_deadline, n->loop, on_drain_deadline);
    timer_init(&n->linger, n->loop, on_linger);
    n->gateway = gateway_create(n->loop, n->cfg, id, reterr);
    if (n->gateway == NULL)
        return false;
    n->net = net_create(n->loop, n->cfg, reterr);
    if (n->net == NULL)
        return false;
    if (!n->cfg->insecure)
        keyring_start(&n->keyring, n->gateway->broker, n->cfg, on_ticket_keys, n);
    loop_ev_on_lag(n->loop, on_lag, n);
    loop_ev_signal(n->loop, SIGTERM, on_stop_signal, n);
    loop_ev_signal(n->loop, SIGINT, on_stop_signal, n);
    loop_ev_signal(n->loop, SIGHUP, on_reload_signal, n);
    return true;
}

static void tear_down(struct node *n)
{
    timer_stop(&n->drain_deadline);
    timer_stop(&n->linger);
    keyring_stop(&n->keyring);
    net_destroy(&n->net);
    gateway_destroy(&n->gateway);
    loop_ev_destroy(&n->loop);
}

static void node_id(const struct config *cfg, uint32_t worker, char *ret, size_t size)
{
    char boot[7];
    random_hex(boot, 6);
    if (cfg->workers > 1)
        (void)snprintf(ret, size, "%s.%u-%s", cfg->node, worker, boot);
    else
        (void)snprintf(ret, size, "%s-%s", cfg->node, boot);
}

int node_run(struct config *cfg, uint32_t worker, const struct invocation *how)
{
    struct node n = {.cfg = cfg, .how = how};
    struct error error = {0};
    char id[NODE_ID_MAX];
    table_seed();
    node_id(cfg, worker, id, sizeof id);
    log_setup(cfg->log_level, cfg->log_format, id);
    (void)signal(SIGPIPE, SIG_IGN);
    raise_file_limit(cfg);
    if (build(&n, id, &error)) {
        if (cfg->auth == AUTH_OPEN)
            LOG(WARN, "anybody may connect as anybody: for development only", "auth=open");
        net_start(n.net, n.gateway);
        LOG(INFO, "ready", "version=%s broker=%s", VERSION, n.gateway->broker->ops->name);
        loop_ev_run(n.loop);
        LOG(INFO, "stopped", "status=%d", n.status);
    } else {
        LOG(ERROR, "cannot start", "why=%s", log_q(slice_str(error.text)));
        n.status = error.code == ERR_BAD_REQUEST ? 2 : 1;
    }
    tear_down(&n);
    return n.status;
}
