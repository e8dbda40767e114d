// A small program of many ranks that fails in a named way, for test_watchdog to start by mpirun.
//   watchdog_victim CASE    a name in cases()
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <functional>
#include <map>
#include <stdexcept>
#include <thread>

#include "comm/agree.hpp"
#include "comm/run_main.hpp"
#include "comm/watchdog.hpp"

namespace millrace {
namespace {

using Body = std::function<int(const Environment&)>;

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

// Within a watchdog of the test's own, that has little patience.
Body impatient(const Body& body) {
  return [body](const Environment& environment) {
    const WatchdogLimits limits{.beat_seconds = 0.5, .silence_seconds = 3, .stall_seconds = 3};
    const Watchdog watchdog(environment.world(), "impatient", limits);
    return body(environment);
  };
}

const std::map<std::string, Body>& cases() {
  static const std::map<std::string, Body> table = {
      {"success",
       [](const Environment& environment) {
         steps(environment.world(), 20, [](int) {});
         return 0;
       }},
      {"user_error_on_all",
       [](const Environment&) -> int { throw UserError("no such model: nowhere"); }},
      {"user_error_agreed",
       [](const Environment& environment) {
         const Comm& world = environment.world();
         agree(world, [&] {
           if (world.rank() == world.size() - 1) throw UserError("file 7 is truncated");
         });
         return 0;
       }},
      {"user_error_on_one", last_rank([] { throw UserError("my disk is full"); })},
      {"bug_on_one", last_rank([] { throw std::logic_error("index 3 of 2"); })},
      {"user_error_on_some",
       [](const Environment& environment) {
         if (environment.world().rank() > 0) throw UserError("no space in /scratch");
         environment.world().barrier();
         return 0;
       }},
      {"killed", last_rank([] { std::raise(SIGKILL); })},
      {"exits", last_rank([] { _exit(0); })},
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
  };
  return table;
}

}  // namespace
}  // namespace millrace

int main(int argc, char** argv) {
  return millrace::run_main("victim", [&](const millrace::Environment& environment) {
    if (argc != 2 || !millrace::cases().contains(argv[1])) {
      throw millrace::UserError("usage: watchdog_victim CASE");
    }
    return millrace::cases().at(argv[1])(environment);
  });
}
