/* gateway/polling_private.h: for polling.c and polling_take.c. */
#ifndef XD_POLLING_PRIVATE_H
#define XD_POLLING_PRIVATE_H

#include "base/list.h"
#include "base/loop.h"
#include "broker/broker.h"
#include "gateway/polling.h"
#include "gateway/polling_save.h"
#include "gateway/protocol/engineio_payload.h"
#include "gateway/repeats.h"

struct polling {
    struct transport transport; /* of engine->conn */
    struct link link;           /* gateway->pollings */
    struct gateway *gw;
    struct engine *engine;
    struct polling_address *address;
    struct poll *get, *post;  /* that wait; NULL: none */
    struct buf name;          /* of the last GET that had one of its own, */
    bool named;               /* as this one has */
    bool renames;             /* its client gives no two the same one */
    uint64_t named_ms[2];     /* when the two before had a new one; 0: there were none */
    struct buf way;           /* the node that brought the last GET; empty: this one */
    struct buf last;          /* what that node was told, until another GET shows that it has come; empty: nothing */
    struct polling_save save; /* what the store knows of it */
    struct polling_back
        *back;         /* it was another node's, and its sessions are still to be taken up; owned; NULL: they are */
    struct buf frames; /* for the GET */
    struct eio_payload input;
    struct buf input_bytes; /* what is left of the POST's body */
    struct task work;
    char sid[SID_LEN + 1];
    bool listed;
    const char *why; /* it is over; NULL: it is not */
    bool base64;     /* agreed on at the beginning */
    bool text;       /* this answer, too */
    bool left;       /* the client has said that it goes */
    bool hurry;      /* no GET is to wait */
    bool now;        /* this one is not to */
    bool answering;  /* the GET has all that is for it, but the store does not know that yet */
    bool read;       /* the same of the POST: all of it has been read */
    bool refused;    /* its client has broken a rule */
    bool taken;      /* another node has it */
    struct repeats repeats;
};

/* A connection that is not listed, and has no sid. */
enum err polling_create(struct gateway *g, enum eio_revision revision, struct slice ip, bool base64,
                        struct polling **ret, struct error *reterr);
/* Requests find it from now on. */
void polling_list(struct polling *po);

#endif
