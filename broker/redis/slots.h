/* broker/redis/slots.h: Redis Cluster's slots: which slot a key has, who says that he has it, and what "not here" means. Pure: no I/O.
 *
 * Sources: the Redis Cluster specification (key distribution model, hash tags, MOVED and ASK redirection) and the reference of CLUSTER SLOTS. */
#ifndef XD_BROKER_REDIS_SLOTS_H
#define XD_BROKER_REDIS_SLOTS_H

#include <hiredis/hiredis.h>

#include "base/error.h"
#include "broker/redis/args.h"
#include "broker/redis/url.h"

#define SLOTS       16384
#define SLOT_NODES  1000 /* at most so many primaries; replicas are not counted */
#define SLOT_NOBODY UINT16_MAX
#define HOST_MAX    255

/* CRC16 as in XMODEM. */
uint16_t slot_crc16(struct slice s);
/* Of the hash tag, if the key has one that is not empty, else of the whole key. */
uint16_t slot_of_key(struct slice key);
/* Of the key of a command: of EVALSHA the first one, else the second argument. A command without a key has slot 0. */
uint16_t slot_of_command(const struct args *a);

#define SLOT_TAG_LEN 3
/* For every slot a word of letters and digits that has this slot; ret must have SLOTS elements. */
void slot_tags(char (*ret)[SLOT_TAG_LEN + 1]);

/* An address as the cluster writes it; host is empty when it is that of whoever said it. */
struct slot_node {
    char host[HOST_MAX + 1];
    int port;
    uint16_t primary; /* of a replica in a slot_map: whose, an index into its primaries */
};

enum redirect_kind { REDIRECT_NONE, REDIRECT_MOVED, REDIRECT_ASK, REDIRECT_LATER };

struct redirect {
    enum redirect_kind kind;
    uint16_t slot;         /* MOVED, ASK */
    struct slot_node node; /* MOVED, ASK */
};

/* What an error reply means for the one who asked. LATER: nothing was done, and soon it may go better, there or elsewhere. */
void redirect_parse(struct slice error, struct redirect *ret);

struct slot_map {
    struct slot_node *primaries;
    size_t primary_count;
    struct slot_node *replicas;
    size_t replica_count;
    uint16_t owner[SLOTS]; /* index into primaries, or SLOT_NOBODY */
};

/* Reads the reply to CLUSTER SLOTS, as `asked` gave it. Fills *ret with what slot_map_fini frees. */
enum err slot_map_parse(const redisReply *r, const struct redis_host *asked, struct slot_map *ret,
                        struct error *reterr);
void slot_map_fini(struct slot_map *map);

#endif
