/* tests/unit/test_metrics.c: the text of /metrics, read back by a strict parser of the Prometheus format. */
#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/mem.h"
#include "gateway/metrics.h"
#include "tests/support/check.h"

static struct buf text;

static int render(void **state)
{
    (void)state;
    buf_clear(&text);
    metrics_render(&text);
    buf_append_char(&text, '\0');
    text.n--;
    return 0;
}

static int start_alone(void **state)
{
    metrics_share(1);
    return render(state);
}

static int stop(void **state)
{
    (void)state;
    buf_fini(&text);
    return 0;
}

/* The value of a sample by its complete name and labels; fails when it is not there exactly once. */
static const char *value(const char *name)
{
    static char found[32];
    int count = 0;
    size_t n = strlen(name);
    for (const char *line = text.p; line != NULL && *line != '\0'; line = strchr(line, '\n') + 1) {
        if (strncmp(line, name, n) != 0 || line[n] != ' ')
            continue;
        (void)snprintf(found, sizeof found, "%.*s", (int)strcspn(line + n + 1, "\n"), line + n + 1);
        count++;
    }
    if (count != 1)
        fail_msg("%s occurs %d times in\n%s", name, count, text.p);
    return found;
}

/* --- the format --- */

struct family {
    char name[128], type[16];
};

static const char *name_end(const char *p)
{
    assert_true(isalpha((unsigned char)*p) || *p == '_');
    while (isalnum((unsigned char)*p) || *p == '_')
        p++;
    return p;
}

/* {name="value",…} with escapes; returns what follows. */
static const char *labels_end(const char *p)
{
    if (*p != '{')
        return p;
    do {
        p = name_end(p + 1);
        assert_memory_equal(p, "=\"", 2);
        for (p += 2; *p != '"'; p++) {
            assert_int_not_equal(*p, '\n');
            if (*p == '\\')
                assert_non_null(strchr("\\\"n", *++p));
        }
        p++;
    } while (*p == ',');
    assert_int_equal(*p, '}');
    return p + 1;
}

static void check_sample(const char *line, const struct family *f)
{
    const char *end = name_end(line);
    size_t n = strlen(f->name);
    assert_memory_equal(line, f->name, n); /* samples stand under their family */
    if (strcmp(f->type, "histogram") == 0)
        assert_true(strncmp(line + n, "_bucket{", 8) == 0 || strncmp(line + n, "_sum", 4) == 0 ||
                    strncmp(line + n, "_count", 6) == 0);
    else
        assert_ptr_equal(end, line + n);
    if (strcmp(f->type, "counter") == 0)
        assert_memory_equal(end - 6, "_total", 6);
    end = labels_end(end);
    assert_int_equal(*end, ' ');
    assert_int_equal(strspn(end + 1, "0123456789."), strcspn(end + 1, "\n"));
}

/* Every line is HELP, then TYPE of the same new family, or a sample of the family before. Returns the number of families. */
static size_t check_format(void)
{
    static struct family seen[512];
    size_t count = 0;
    bool typed = true;
    assert_int_equal(text.p[text.n - 1], '\n');
    for (const char *line = text.p; *line != '\0'; line = strchr(line, '\n') + 1) {
        char name[128], rest[128];
        if (sscanf(line, "# HELP %127s %127[^\n]", name, rest) == 2) {
            for (size_t i = 0; i < count; i++)
                assert_string_not_equal(seen[i].name, name);
            assert_true(typed && count < ARRAY_LEN(seen));
            (void)snprintf(seen[count].name, sizeof seen[count].name, "%s", name);
            count++;
            typed = false;
        } else if (sscanf(line, "# TYPE %127s %127s", name, rest) == 2) {
            assert_string_equal(name, seen[count - 1].name);
            assert_true(strcmp(rest, "counter") == 0 || strcmp(rest, "gauge") == 0 || strcmp(rest, "histogram") == 0);
            (void)snprintf(seen[count - 1].type, sizeof seen[count - 1].type, "%.15s", rest);
            typed = true;
        } else {
            assert_true(typed && count != 0);
            check_sample(line, &seen[count - 1]);
        }
    }
    return count;
}

/* --- tests --- */

static void text_is_well_formed(void **state)
{
    (void)state;
    /* 17 + store_up, drops, errors, commands, lag, 14 of the broker, its round trip: more is fine, fewer were lost. */
    assert_true(check_format() >= 17 + 1 + 3 + 1 + 14 + 1);
}

static void everything_is_there_before_anything_happened(void **state)
{
    (void)state;
#define X(field, type, help)                                                                                           \
    assert_string_equal(value(strcmp(type, "counter") == 0 ? "xindao_" #field "_total" : "xindao_" #field), "0");
    METRIC_MAP(X)
#undef X
    char name[128];
    for (unsigned i = 0; i < DROP_REASONS; i++) {
        (void)snprintf(name, sizeof name, "xindao_drops_total{reason=\"%s\"}", drop_reason_word(i));
        assert_string_equal(value(name), "0");
    }
    for (unsigned i = OK + 1; i < ERR_COUNT; i++) {
        (void)snprintf(name, sizeof name, "xindao_errors_total{code=\"%s\"}", err_name(i));
        assert_string_equal(value(name), "0");
    }
    for (unsigned i = 0; i < COMMANDS; i++) {
        (void)snprintf(name, sizeof name, "xindao_commands_total{type=\"%s\"}", command_name(i));
        assert_string_equal(value(name), "0");
    }
    assert_string_equal(value("xindao_loop_lag_seconds_count"), "0");
    assert_string_equal(value("xindao_redis_round_trip_seconds_bucket{le=\"+Inf\"}"), "0");
    assert_null(strstr(text.p, "worker="));
}

static void counters_show_what_was_counted(void **state)
{
    metrics->deliveries = 18446744073709551615u;
    metrics->connections = 3;
    metrics->drops[DROP_SLOW_CONSUMER] = 4;
    metrics->errors[ERR_RATE_LIMITED] = 5;
    metrics->commands[CMD_PUBLISH] = 6;
    metrics->store_up = 1;
    metrics->broker.reconnects = 7;
    metrics->broker.queued_bytes = 8;
    render(state);
    assert_string_equal(value("xindao_deliveries_total"), "18446744073709551615");
    assert_string_equal(value("xindao_connections"), "3");
    assert_string_equal(value("xindao_drops_total{reason=\"slow_consumer\"}"), "4");
    assert_string_equal(value("xindao_errors_total{code=\"rate_limited\"}"), "5");
    assert_string_equal(value("xindao_commands_total{type=\"publish\"}"), "6");
    assert_string_equal(value("xindao_store_up"), "1");
    assert_string_equal(value("xindao_redis_reconnects_total"), "7");
    assert_string_equal(value("xindao_redis_queued_bytes"), "8");
}

static void lag_is_a_cumulative_histogram_in_seconds(void **state)
{
    metrics_lag(0);
    metrics_lag(100); /* a bound is inside its bucket */
    metrics_lag(101);
    metrics_lag(4000);
    metrics_lag(5000000);
    render(state);
    assert_string_equal(value("xindao_loop_lag_seconds_bucket{le=\"0.0001\"}"), "2");
    assert_string_equal(value("xindao_loop_lag_seconds_bucket{le=\"0.0005\"}"), "3");
    assert_string_equal(value("xindao_loop_lag_seconds_bucket{le=\"0.001\"}"), "3");
    assert_string_equal(value("xindao_loop_lag_seconds_bucket{le=\"0.005\"}"), "4");
    assert_string_equal(value("xindao_loop_lag_seconds_bucket{le=\"1\"}"), "4");
    assert_string_equal(value("xindao_loop_lag_seconds_bucket{le=\"+Inf\"}"), "5");
    assert_string_equal(value("xindao_loop_lag_seconds_sum"), "5.004201");
    assert_string_equal(value("xindao_loop_lag_seconds_count"), "5");
}

static void what_replicas_confirm_is_counted(void **state)
{
    metrics->broker.replicated = 7;
    metrics->broker.quorum_missed = 2;
    metrics->broker.wait_bucket[0] = 3;
    metrics->broker.wait_bucket[ARRAY_LEN(broker_rtt_bounds_us)] = 1;
    metrics->broker.wait_us_sum = 2250000;
    render(state);
    assert_string_equal(value("xindao_redis_replicated_total"), "7");
    assert_string_equal(value("xindao_redis_quorum_missed_total"), "2");
    assert_string_equal(value("xindao_redis_wait_seconds_count"), "4");
    assert_string_equal(value("xindao_redis_wait_seconds_sum"), "2.25");
}

static void round_trip_has_the_brokers_bounds(void **state)
{
    char name[128];
    metrics->broker.rtt_bucket[0] = 1;
    metrics->broker.rtt_bucket[ARRAY_LEN(broker_rtt_bounds_us)] = 2;
    metrics->broker.rtt_us_sum = 1500000;
    metrics->broker.rtt_count = 3;
    render(state);
    (void)snprintf(name, sizeof name, "xindao_redis_round_trip_seconds_bucket{le=\"%.9g\"}",
                   broker_rtt_bounds_us[0] / 1e6);
    assert_string_equal(value(name), "1");
    assert_string_equal(value("xindao_redis_round_trip_seconds_bucket{le=\"+Inf\"}"), "3");
    assert_string_equal(value("xindao_redis_round_trip_seconds_sum"), "1.5");
    assert_string_equal(value("xindao_redis_round_trip_seconds_count"), "3");
}

static void drop_reasons_are_words(void **state)
{
    (void)state;
    for (unsigned i = 0; i < DROP_REASONS; i++) {
        const char *word = drop_reason_word(i);
        assert_int_equal(strspn(word, "abcdefghijklmnopqrstuvwxyz0123456789_"), strlen(word));
        for (unsigned j = 0; j < i; j++)
            assert_string_not_equal(word, drop_reason_word(j));
    }
}

/* From here on there are two workers. */
static void workers_share_one_text(void **state)
{
    metrics_share(2);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        metrics_use(1);
        metrics->connections = 11;
        metrics->drops[DROP_IDLE] = 12;
        metrics_lag(7);
        _exit(0);
    }
    int status = -1;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    metrics_use(0);
    metrics->connections = 10;
    render(state);
    (void)check_format();
    assert_string_equal(value("xindao_connections{worker=\"0\"}"), "10");
    assert_string_equal(value("xindao_connections{worker=\"1\"}"), "11");
    assert_string_equal(value("xindao_drops_total{worker=\"1\",reason=\"idle\"}"), "12");
    assert_string_equal(value("xindao_loop_lag_seconds_bucket{worker=\"1\",le=\"0.0001\"}"), "1");
    assert_string_equal(value("xindao_loop_lag_seconds_sum{worker=\"1\"}"), "0.000007");
    assert_string_equal(value("xindao_loop_lag_seconds_count{worker=\"0\"}"), "0");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(text_is_well_formed, start_alone),
        cmocka_unit_test_setup(everything_is_there_before_anything_happened, start_alone),
        cmocka_unit_test_setup(counters_show_what_was_counted, start_alone),
        cmocka_unit_test_setup(lag_is_a_cumulative_histogram_in_seconds, start_alone),
        cmocka_unit_test_setup(what_replicas_confirm_is_counted, start_alone),
        cmocka_unit_test_setup(round_trip_has_the_brokers_bounds, start_alone),
        cmocka_unit_test(drop_reasons_are_words),
        cmocka_unit_test(workers_share_one_text),
    };
    return cmocka_run_group_tests(tests, NULL, stop);
}
