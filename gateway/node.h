/* gateway/node.h: runs one node in this process: builds everything in order, runs, drains, tears down in reverse. */
#ifndef XD_NODE_H
#define XD_NODE_H

#include "gateway/config.h"

/* The command line, kept for reloading. */
struct invocation {
    int argc;
    char *const *argv;
};

/* worker: index of this process among cfg->workers. Returns the exit status: 0 after an orderly drain, 1 after a failure or a second signal, 2 when the
 * configuration turns out to be wrong. cfg is changed by reloads. */
int node_run(struct config *cfg, uint32_t worker, const struct invocation *how);

/* gateway/supervisor.c: forks cfg->workers nodes, restarts those that die, passes signals on. Returns the exit status. */
int supervisor_run(struct config *cfg, const struct invocation *how);

#endif
