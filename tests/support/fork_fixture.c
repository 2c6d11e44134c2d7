/* tests/support/fork_fixture.c: outages, what others say meanwhile, and what clients are told of it. */
#include "tests/support/fork_fixture.h"

#include <stdio.h>

#include "gateway/metrics.h"
#include "gateway/room.h"
#include "tests/support/check.h"
#include "tests/support/rollback.h"

void fork_open(struct core *c, struct client *cl, const char *const *args, int n)
{
    core_init(c, args);
    *metrics = (struct metrics){0};
    client_open(&cl[0], c, "/ws/alice");
    client_open(&cl[1], c, "/ws/bob");
    lobby_join(&cl[0]);
    lobby_join(&cl[1]);
    for (int i = 1; i <= n; i++)
        lobby_say(&cl[0], i);
    lobby_expect(&cl[0], 1, n);
    lobby_expect(&cl[1], 1, n);
}

void fork_close(struct core *c, struct client *cl, int n)
{
    for (int i = 0; i < n; i++)
        client_vanish(&cl[i]);
    loop_fake_run(&c->loop);
    core_fini(c);
    assert_int_equal(metrics->tail_bytes, 0);
}

void outage_begins(struct core *c)
{
    c->gw->broker->events->link(c->gw, false);
    c->deaf = true;
}

void outage_ends(struct core *c)
{
    c->deaf = false;
    c->gw->broker->events->link(c->gw, true);
    loop_fake_run(&c->loop);
}

void elsewhere(struct core *c, const struct publish *p)
{
    struct publish q = *p;
    q.room = LOBBY;
    q.event = SLICE("message");
    q.retain_count = 1000;
    c->gw->broker->ops->publish(c->gw->broker, &q, NULL, NULL);
    loop_fake_run(&c->loop);
}

void elsewhere_say(struct core *c, const char *data)
{
    elsewhere(c, &(struct publish){.data = slice_str(data)});
}

struct position last_of(const struct core *c)
{
    return room_find(c->gw, LOBBY)->stream.last;
}

void expect_fork(struct client *cl, int at)
{
    char offset[32];
    (void)snprintf(offset, sizeof offset, "\"position\":\"%d%c", at, at == 0 ? '"' : '.');
    client_expect(cl, "\"recovered\":false", "\"reason\":\"fork\"", offset);
}

void expect_mark(struct client *cl, int at)
{
    char offset[32];
    (void)snprintf(offset, sizeof offset, "\"position\":\"%d.", at);
    client_expect(cl, "\"recovered\":true", offset);
}

void expect_message(struct client *cl, int data, int at)
{
    char text[32], offset[32];
    (void)snprintf(text, sizeof text, "\"data\":%d}", data);
    (void)snprintf(offset, sizeof offset, "\"position\":\"%d.", at);
    client_expect(cl, "\"message\"", text, offset);
}

void join_at(struct client *cl, const struct position *at)
{
    char frame[160], position[POSITION_MAX + 1];
    (void)snprintf(frame, sizeof frame, "{\"type\":\"join\",\"id\":1,\"room\":\"lobby\",\"position\":\"%s\"}",
                   position_text(at, position));
    client_send(cl, frame);
}

void come_back(struct client *cl, struct core *c, const struct position *at)
{
    client_open(cl, c, "/ws/carol");
    join_at(cl, at);
    client_expect(cl, "\"type\":\"ack\"");
}

void lose_three(struct core *c)
{
    outage_begins(c);
    rollback(c->gw->broker, LOBBY, 7);
    elsewhere_say(c, "100");
    elsewhere_say(c, "101");
    outage_ends(c);
}
