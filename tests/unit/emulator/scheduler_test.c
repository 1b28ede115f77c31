/* The scheduler: timers fire in the order of their time, whatever is done to them meanwhile. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "emulator/scheduler.h"
#include "tests/support/testing.h"

enum { TIMER_COUNT = 8 };

static struct usbip_scheduler scheduler;
static struct usbip_timer timers[TIMER_COUNT];
static char fired_text[256];

static size_t index_of(const struct usbip_timer *timer)
{
    return (size_t)(timer - timers);
}

/* Notes which one it was and at what time: "0@5 ". */
static void fired(struct usbip_timer *timer)
{
    char word[32];
    snprintf(word, sizeof word, "%zu@%llu ", index_of(timer), (unsigned long long)scheduler.now_us);
    strcat(fired_text, word);
}

static void arm(size_t i, uint64_t due_us)
{
    CU_ASSERT_EQUAL_FATAL(usbip_timer_arm(&scheduler, &timers[i], due_us), 0);
}

static void begin(void)
{
    memset(timers, 0, sizeof timers);
    for (size_t i = 0; i < TIMER_COUNT; i++)
        timers[i].fired = fired;
    scheduler = (struct usbip_scheduler){0};
    fired_text[0] = '\0';
}

static void end(void)
{
    usbip_scheduler_free(&scheduler);
}

static void test_order(void)
{
    begin();
    CU_ASSERT_EQUAL(usbip_scheduler_due_us(&scheduler), USBIP_NEVER);
    arm(0, 30);
    arm(1, 10);
    arm(2, 20);
    CU_ASSERT_EQUAL(usbip_scheduler_due_us(&scheduler), 10);
    usbip_scheduler_advance(&scheduler, 9);
    CU_ASSERT_STRING_EQUAL(fired_text, "");
    CU_ASSERT_EQUAL(scheduler.now_us, 9);
    usbip_scheduler_advance(&scheduler, 100);
    CU_ASSERT_STRING_EQUAL(fired_text, "1@10 2@20 0@30 ");
    CU_ASSERT_EQUAL(scheduler.now_us, 100);
    CU_ASSERT_EQUAL(usbip_scheduler_due_us(&scheduler), USBIP_NEVER);
    end();
}

static void test_same_time_fires_in_order_of_arming(void)
{
    begin();
    for (size_t i = 0; i < TIMER_COUNT; i++)
        arm((i * 3) % TIMER_COUNT, 7);
    usbip_scheduler_advance(&scheduler, 7);
    CU_ASSERT_STRING_EQUAL(fired_text, "0@7 3@7 6@7 1@7 4@7 7@7 2@7 5@7 ");
    end();
}

static void test_arming_again_moves(void)
{
    begin();
    arm(0, 5);
    arm(1, 6);
    arm(0, 6); /* now behind the other */
    CU_ASSERT_EQUAL(scheduler.size, 2);
    usbip_scheduler_advance(&scheduler, 10);
    CU_ASSERT_STRING_EQUAL(fired_text, "1@6 0@6 ");
    end();
}

static void test_cancel(void)
{
    begin();
    arm(0, 5);
    arm(1, 6);
    CU_ASSERT_TRUE(usbip_timer_is_armed(&timers[0]));
    usbip_timer_cancel(&scheduler, &timers[0]);
    CU_ASSERT_FALSE(usbip_timer_is_armed(&timers[0]));
    usbip_timer_cancel(&scheduler, &timers[0]); /* harmless */
    usbip_scheduler_advance(&scheduler, 10);
    CU_ASSERT_STRING_EQUAL(fired_text, "1@6 ");
    usbip_timer_cancel(&scheduler, &timers[1]); /* has fired */
    CU_ASSERT_EQUAL(scheduler.size, 0);
    end();
}

static void test_time_never_goes_back(void)
{
    begin();
    usbip_scheduler_advance(&scheduler, 50);
    usbip_scheduler_advance(&scheduler, 20);
    CU_ASSERT_EQUAL(scheduler.now_us, 50);
    arm(0, 10); /* overdue: fires at once, and sees the present time */
    usbip_scheduler_advance(&scheduler, 50);
    CU_ASSERT_STRING_EQUAL(fired_text, "0@50 ");
    end();
}

static void arm_others(struct usbip_timer *timer)
{
    fired(timer);
    arm(1, scheduler.now_us);      /* in this call, after those that are due then */
    arm(2, scheduler.now_us + 2);  /* in this call */
    arm(3, scheduler.now_us + 20); /* not yet */
}

static void test_arming_from_within(void)
{
    begin();
    timers[0].fired = arm_others;
    arm(0, 10);
    arm(4, 10);
    arm(5, 11);
    usbip_scheduler_advance(&scheduler, 15);
    CU_ASSERT_STRING_EQUAL(fired_text, "0@10 4@10 1@10 5@11 2@12 ");
    CU_ASSERT_EQUAL(usbip_scheduler_due_us(&scheduler), 30);
    end();
}

static void arm_itself(struct usbip_timer *timer)
{
    fired(timer);
    arm(index_of(timer), scheduler.now_us + 4);
}

static void test_periodic(void)
{
    begin();
    timers[0].fired = arm_itself;
    arm(0, 4);
    usbip_scheduler_advance(&scheduler, 13);
    CU_ASSERT_STRING_EQUAL(fired_text, "0@4 0@8 0@12 ");
    CU_ASSERT_TRUE(usbip_timer_is_armed(&timers[0]));
    end();
}

static void cancel_others(struct usbip_timer *timer)
{
    fired(timer);
    CU_ASSERT_FALSE(usbip_timer_is_armed(timer));
    usbip_timer_cancel(&scheduler, timer);
    usbip_timer_cancel(&scheduler, &timers[1]); /* due at the same time */
    usbip_timer_cancel(&scheduler, &timers[2]); /* later */
}

static void test_cancelling_from_within(void)
{
    begin();
    timers[0].fired = cancel_others;
    arm(0, 10);
    arm(1, 10);
    arm(2, 11);
    arm(3, 12);
    usbip_scheduler_advance(&scheduler, 15);
    CU_ASSERT_STRING_EQUAL(fired_text, "0@10 3@12 ");
    end();
}

/* ---- A thousand timers against a model that keeps them in an array ---- */

enum { MANY = 1000, STEPS = 20000 };

static struct usbip_timer many[MANY];
static uint64_t model_due[MANY], model_order[MANY], model_armed;
static bool model_is_armed[MANY];
static size_t last_fired;
static uint32_t random_state;

static uint32_t random_below(uint32_t limit)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 17;
    random_state ^= random_state << 5;
    return random_state % limit;
}

static size_t model_first(void)
{
    size_t first = MANY;
    for (size_t i = 0; i < MANY; i++) {
        if (!model_is_armed[i])
            continue;
        if (first == MANY || model_due[i] < model_due[first] ||
            (model_due[i] == model_due[first] && model_order[i] < model_order[first]))
            first = i;
    }
    return first;
}

static void model_arm(size_t i, uint64_t due_us)
{
    CU_ASSERT_EQUAL_FATAL(usbip_timer_arm(&scheduler, &many[i], due_us), 0);
    model_due[i] = due_us;
    model_order[i] = model_armed++;
    model_is_armed[i] = true;
}

static void many_fired(struct usbip_timer *timer)
{
    size_t i = (size_t)(timer - many), expected = model_first();
    CU_ASSERT_EQUAL_FATAL(i, expected);
    CU_ASSERT_TRUE_FATAL(scheduler.now_us >= model_due[i]);
    model_is_armed[i] = false;
    last_fired = i;
    if (random_below(4) == 0)
        model_arm(random_below(MANY), scheduler.now_us + random_below(50));
}

static void test_model(void)
{
    const uint32_t seed = 0x5eed1234;
    printf("(seed %#x) ", seed);
    random_state = seed;
    scheduler = (struct usbip_scheduler){0};
    for (size_t i = 0; i < MANY; i++) {
        many[i] = (struct usbip_timer){.fired = many_fired};
        model_arm(i, random_below(500));
    }
    for (unsigned step = 0; step < STEPS; step++) {
        size_t i = random_below(MANY);
        switch (random_below(4)) {
        case 0:
        case 1:
            model_arm(i, scheduler.now_us + random_below(300));
            break;
        case 2:
            usbip_timer_cancel(&scheduler, &many[i]);
            model_is_armed[i] = false;
            break;
        default: {
            uint64_t now_us = scheduler.now_us + random_below(4);
            usbip_scheduler_advance(&scheduler, now_us);
            CU_ASSERT_EQUAL_FATAL(scheduler.now_us, now_us);
            size_t first = model_first();
            uint64_t due_us = first == MANY ? USBIP_NEVER : model_due[first];
            CU_ASSERT_EQUAL_FATAL(usbip_scheduler_due_us(&scheduler), due_us);
            CU_ASSERT_TRUE_FATAL(due_us > now_us);
            break;
        }
        }
        CU_ASSERT_EQUAL_FATAL(usbip_timer_is_armed(&many[i]), model_is_armed[i]);
    }
    usbip_scheduler_free(&scheduler);
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"order", test_order},
        {"same time: in the order of arming", test_same_time_fires_in_order_of_arming},
        {"arming again moves a timer", test_arming_again_moves},
        {"cancel", test_cancel},
        {"time never goes back", test_time_never_goes_back},
        {"arming from within", test_arming_from_within},
        {"periodic", test_periodic},
        {"cancelling from within", test_cancelling_from_within},
        {"1000 timers against a model", test_model},
        CU_TEST_INFO_NULL,
    };
    return run_tests("scheduler", tests);
}
