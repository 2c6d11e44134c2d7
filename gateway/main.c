/* gateway/main.c: xindao-gateway: reads the configuration, then runs one node, or several under a supervisor. */
#include <stdlib.h>

#include "gateway/doctor/doctor.h"
#include "gateway/gateway.h"
#include "gateway/net/net.h"
#include "gateway/node.h"

#define EXIT_CONFIG 2

static int complain(const struct error *error)
{
    (void)fprintf(stderr, "xindao-gateway: %s\n", error->text);
    return EXIT_CONFIG;
}

static int check(const struct config *cfg)
{
    struct error error = {0};
    if (!cfg->insecure && net_check_tls(cfg, &error) != OK)
        return complain(&error);
    if (gateway_check_auth(cfg, &error) != OK || gateway_check_backend(cfg, &error) != OK)
        return complain(&error);
    (void)puts("configuration ok");
    return 0;
}

static int examine(const struct config *cfg)
{
    struct error error = {0};
    bool failed = false;
    const struct doctor_options options = {.url = cfg->doctor,
                                           .ca_file = cfg->doctor_ca,
                                           .addresses = (const char *const *)cfg->doctor_addresses.items,
                                           .address_count = cfg->doctor_addresses.count,
                                           .idle_s = cfg->doctor_idle_s};
    if (doctor_run(&options, stdout, &failed, &error) != OK)
        return complain(&error);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

static int act(struct config *cfg, enum config_action action, const struct invocation *how)
{
    switch (action) {
    case CONFIG_HELP: config_print_help(stdout); return 0;
    case CONFIG_VERSION: (void)printf("xindao-gateway %s\n", VERSION); return 0;
    case CONFIG_PRINT: config_print(cfg, stdout); return 0;
    case CONFIG_CHECK: return check(cfg);
    case CONFIG_DOCTOR: return examine(cfg);
    case CONFIG_RUN: break;
    }
    return cfg->workers > 1 ? supervisor_run(cfg, how) : node_run(cfg, 0, how);
}

int main(int argc, char **argv)
{
    struct config cfg = {0};
    struct error error = {0};
    enum config_action action;
    if (config_load(argc, argv, getenv, &cfg, &action, &error) != OK)
        return complain(&error);
    int status = act(&cfg, action, &(struct invocation){argc, argv});
    config_fini(&cfg);
    return status;
}
