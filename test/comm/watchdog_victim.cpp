// A small program of many ranks that fails in a named way, for test_watchdog to start by mpirun.
//   watchdog_victim CASE    a name in cases()
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdio>
#include <functional>
#include <map>
#include <stdexcept>
#include <thread>
#include <vector>

#include "comm/agree.hpp"
#include "comm/exit_code.hpp"
#include "comm/run_main.hpp"

namespace millrace {
namespace {

using Body = std::function<int(const Environment&)>;
using StoppableBody = std::function<int(const Environment&, Watchdog&)>;

// Steps as a job makes them: each ends in an exchange of all ranks.
void steps(const Comm& world, int count, const std::function<void(int step)>& at_step) {
  for (int step = 0; step < count; ++step) {
    mark_step(step);
    at_step(step);
    world.all_reduce_sum(1);
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
}

// One rank (-1: the last) does `deed` in step 50 of very many.
Body one_rank(int rank, const std::function<void()>& deed) {
  return [rank, deed](const Environment& environment) {
    const Comm& world = environment.world();
    steps(world, 1'000'000, [&](int step) {
      if (step == 50 && (world.rank() - rank) % world.size() == 0) deed();
    });
    return 0;
  };
}

Body last_rank(const std::function<void()>& deed) { return one_rank(-1, deed); }
void stop() { std::raise(SIGSTOP); }
// As when the job is suspended as a whole, and goes on after a while.
void sleep_stopped() {
  const pid_t me = getpid();
  if (fork() == 0) {
    sleep(6);
    kill(me, SIGCONT);
    _exit(0);
  }
  stop();
}
void hang() { std::this_thread::sleep_for(std::chrono::hours(1)); }

// A rank that is asked to stop does so in good order.
int stop_when_asked(const Environment& environment, Watchdog& watchdog) {
  watchdog.settle(60, {.grace_seconds = 1});
  const Comm& world = environment.world();
  for (std::int64_t step = 0;; ++step) {
    mark_step(step);
    if (world.all_reduce_min(watchdog.stop_request().is_made() ? 1 : 0) == 1) break;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return exit_code::stopped;
}
// One that never looks.
int stop_never(const Environment& environment, Watchdog& watchdog) {
  watchdog.settle(60, {.grace_seconds = 1});
  if (environment.world().rank() == 1) hang();
  return one_rank(0, [] {})(environment);
}
// Every rank finds out for itself, in a phase of its own.
int stop_in_a_phase(const Environment& environment, Watchdog& watchdog) {
  watchdog.settle(60, {.grace_seconds = 60});
  agree(environment.world(), [&] {
    while (environment.world().rank() == 1) {
      watchdog.stop_request().throw_if_made();
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
  });
  return 0;
}
// The last rank gets the signals, some time apart, in the middle of it all.
StoppableBody signalled(std::vector<int> signals, StoppableBody body) {
  return [signals = std::move(signals), body = std::move(body)](const Environment& environment,
                                                                Watchdog& watchdog) {
    std::jthread sender;  // joins, also when the body throws
    if (environment.world().rank() == environment.world().size() - 1) {
      sender = std::jthread([&signals] {
        for (const int signal : signals) {
          std::this_thread::sleep_for(std::chrono::milliseconds(300));
          kill(getpid(), signal);
        }
      });
    }
    return body(environment, watchdog);
  };
}

void crash() { raise(SIGSEGV); }
int run_over_the_stack(int depth) {
  volatile char page[1 << 16];
  page[0] = 1;
  return depth == -1 ? 0 : run_over_the_stack(depth + 1) + page[0];
}
void use_up_memory() {
  const std::vector<char> all(std::size_t{1} << 62);
  throw std::logic_error("that much memory there is not");
}

struct Case {
  StoppableBody body;
  WatchdogLimits limits = {};
};
Case with_limits(const Body& body, const WatchdogLimits& limits) {
  return {[body](const Environment& environment, Watchdog&) { return body(environment); }, limits};
}
Case patient(const Body& body) { return with_limits(body, {}); }
Case impatient(const Body& body) {
  return with_limits(body, {.beat_seconds = 0.5, .silence_seconds = 3, .stall_seconds = 3});
}

const std::map<std::string, Case>& cases() {
  static const std::map<std::string, Case> table = {
      {"success", patient([](const Environment& environment) {
         steps(environment.world(), 20, [](int) {});
         return 0;
       })},
      {"user_error_on_all",
       patient([](const Environment&) -> int { throw UserError("no such model: nowhere"); })},
      {"user_error_agreed", patient([](const Environment& environment) {
         const Comm& world = environment.world();
         agree(world, [&] {
           if (world.rank() == world.size() - 1) throw UserError("file 7 is truncated");
         });
         return 0;
       })},
      {"user_error_on_one", patient(last_rank([] { throw UserError("my disk is full"); }))},
      {"bug_on_one", patient(last_rank([] { throw std::logic_error("index 3 of 2"); }))},
      {"user_error_on_some", patient([](const Environment& environment) {
         if (environment.world().rank() > 0) throw UserError("no space in /scratch");
         environment.world().barrier();
         return 0;
       })},
      {"out_of_memory", patient(last_rank(use_up_memory))},
      {"killed", patient(last_rank([] { std::raise(SIGKILL); }))},
      {"first_rank_killed", patient(one_rank(0, [] { std::raise(SIGKILL); }))},
      {"exits", patient(last_rank([] { _exit(0); }))},
      {"crashes", patient(last_rank(crash))},
      {"runs_over_the_stack", patient(last_rank([] { run_over_the_stack(0); }))},
      {"thread_throws", patient(last_rank([] {
         std::thread([] { throw std::runtime_error("nobody catches this"); }).join();
       }))},
      {"stopped", impatient(last_rank(stop))},
      {"first_rank_stopped", impatient(one_rank(0, stop))},
      {"hangs", impatient(last_rank(hang))},
      {"suspended", impatient([](const Environment& environment) {
         steps(environment.world(), 100, [](int step) {
           if (step == 50) sleep_stopped();
         });
         return 0;
       })},
      {"works_on", impatient(last_rank([] {}))},  // until somebody ends it
      {"asked_to_stop", {signalled({SIGUSR1}, stop_when_asked)}},
      {"asked_to_stop_in_a_phase", {signalled({SIGTERM}, stop_in_a_phase)}},
      {"asked_to_stop_but_hangs", {signalled({SIGTERM}, stop_never)}},
      {"interrupted_twice", {signalled({SIGINT, SIGINT}, stop_never)}},
      {"signal_not_expected", {signalled({SIGTERM}, patient(last_rank([] {})).body)}},
  };
  return table;
}

}  // namespace
}  // namespace millrace

int main(int argc, char** argv) {
  const auto& cases = millrace::cases();
  const auto found = argc == 2 ? cases.find(argv[1]) : cases.end();
  if (found == cases.end()) {
    std::fprintf(stderr, "usage: watchdog_victim CASE\n");
    return millrace::exit_code::users_mistake;
  }
  return millrace::run_main("victim", found->second.body, found->second.limits);
}
