"""Jobs that are stopped by signals and by the clock, and jobs whose ranks die: how they end, what they say, and
that --resume makes the rest of them."""

import json
import random
import resource
import signal
import time
import unittest

from running_job import MODELS, Job, Workspace, answers, slow_model

STOPPED = 75
MANY = 600  # prompts; a few seconds of work, so that a signal comes in the middle
SHORT_TOKENS = 24


class Stop(unittest.TestCase):
    def setUp(self):
        workspace = Workspace()
        self.folder = workspace.__enter__()
        self.addCleanup(workspace.__exit__, None, None, None)
        self.model = slow_model(self.folder / "model")
        self.output = self.folder / "answers.jsonl"

    def write_prompts(self, count, max_tokens):
        path = self.folder / "prompts.jsonl"
        with path.open("w") as file:
            for i in range(count):
                file.write(json.dumps({"prompt": [3 + i % 300, 5, 7 + i % 11], "max_tokens": max_tokens + i % 5,
                                       "id": str(i)}) + "\n")
        return path

    def arguments(self, prompts, *more):
        return ["--model", self.model, "--load-format", "dummy", "--max-model-len", "1024", "--prompts", prompts,
                "--output", self.output, "--temperature", "0", "--ignore-eos", "--max-num-seqs", "4",
                "--progress-interval", "0", "--checkpoint-interval", "0.2", *more]

    def run_to_the_end(self, ranks, prompts, *more):
        with Job(ranks, self.arguments(prompts, *more)) as job:
            code, _ = job.end(240)
            self.assertEqual(code, 0, job.log())

    def results(self):
        text = self.output.read_text()
        self.output.unlink()
        self.output.with_name(f"{self.output.name}.report.h5").unlink()
        return text

    def wait_for_answers(self, job, count=5):
        job.wait_for(lambda: answers(self.output) >= count, f"{count} answers in the journal")

    def assert_stopped(self, job, reason, seconds):
        code, took = job.end()
        self.assertEqual(code, STOPPED, job.log())
        self.assertLess(took, seconds)
        self.assertIn(f"stopped by {reason}", job.log())
        self.assertEqual(job.complaints(), [])
        self.assertFalse(self.output.exists())
        self.assertGreater(answers(self.output), 0)

    def assert_failed(self, job, pattern, seconds=30):
        code, took = job.end()
        self.assertNotIn(code, (0, 2))
        self.assertLess(took, seconds)
        self.assertEqual(len(job.complaints()), 1, job.log())
        self.assertRegex(job.complaints()[0], pattern)
        self.assertFalse(self.output.exists())
        self.assertGreater(answers(self.output), 0)
        return code

    def test_a_signal_on_any_rank_stops_every_rank_and_resume_makes_the_rest(self):
        prompts = self.write_prompts(32, SHORT_TOKENS)
        self.run_to_the_end(2, prompts, "-dp", "2")
        undisturbed = self.results()
        for number, rank, grid in [(signal.SIGUSR1, 1, "-dp"), (signal.SIGTERM, 0, "-pp"),
                                   (signal.SIGINT, 1, "-tp"), (signal.SIGUSR1, 0, "-tp"),
                                   (signal.SIGTERM, 1, "-dp"), (signal.SIGINT, 0, "-pp")]:
            with self.subTest(signal=number, rank=rank, grid=grid):
                with Job(2, self.arguments(prompts, grid, "2", "--resume", "--grace-period", "2")) as job:
                    self.wait_for_answers(job)
                    job.send(rank, number)
                    self.assert_stopped(job, f"{signal.Signals(number).name} on rank {rank}", 15)
                self.run_to_the_end(1, prompts, "--resume")
                self.assertEqual(self.results(), undisturbed)

    def test_what_runs_is_finished_within_the_grace(self):
        prompts = self.write_prompts(4, 60)
        with Job(2, self.arguments(prompts, "-dp", "2")) as job:
            job.wait_for_line("Maximum concurrency")
            time.sleep(0.3)
            job.send(1, signal.SIGUSR1)
            code, _ = job.end()
            self.assertEqual(code, 0, job.log())  # everything had begun, so everything is answered
        self.assertEqual(len(self.results().splitlines()), 4)

    def test_what_runs_is_dropped_when_the_grace_is_over_and_what_is_finished_is_kept(self):
        prompts = self.folder / "prompts.jsonl"
        prompts.write_text('{"prompt": [3, 5], "max_tokens": 4}\n' * 3 +
                           '{"prompt": [4, 9], "max_tokens": 1000}\n' * 3)
        for grid in ("-pp", "-tp"):
            with self.subTest(grid=grid):
                self.output = self.folder / f"answers{grid}.jsonl"
                with Job(2, self.arguments(prompts, grid, "2", "--grace-period", "1")) as job:
                    self.wait_for_answers(job, 3)
                    job.send(0, signal.SIGTERM)
                    self.assert_stopped(job, "SIGTERM on rank 0", 12)
                    self.assertIn("3 prompts answered, 3 dropped", job.log())
                    self.assertEqual(answers(self.output), 3)

    def test_a_second_interrupt_stops_at_once(self):
        prompts = self.write_prompts(4, 1000)
        with Job(2, self.arguments(prompts, "-tp", "2")) as job:
            job.wait_for_line("Maximum concurrency")
            job.send(1, signal.SIGINT)
            job.wait_for_line("SIGINT on rank 1: no prompt is begun any more", 2)
            job.send(1, signal.SIGINT)
            code, took = job.end()
            self.assertEqual(code, STOPPED, job.log())
            self.assertLess(took, 8)
            self.assertEqual(job.complaints(), ["millrace: stopped at once by a second SIGINT on rank 1"])

    def test_the_launcher_passes_usr1_on(self):
        prompts = self.write_prompts(MANY, SHORT_TOKENS)
        with Job(2, self.arguments(prompts, "-dp", "2", "--grace-period", "1")) as job:
            self.wait_for_answers(job)
            job.process.send_signal(signal.SIGUSR1)
            self.assert_stopped(job, "SIGUSR1 on rank ", 12)

    def test_a_rank_alone_stops_without_a_launcher(self):
        prompts = self.write_prompts(MANY, SHORT_TOKENS)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
            with self.subTest(signal=number):
                with Job(0, self.arguments(prompts, "--resume", "--grace-period", "1")) as job:
                    before = answers(self.output)
                    self.wait_for_answers(job, before + 2)
                    job.send(0, number)
                    self.assert_stopped(job, f"{signal.Signals(number).name} on rank 0", 12)

    def test_a_job_that_loads_its_weights_stops_too(self):
        config = json.loads((self.model / "config.json").read_text())
        config.update(num_hidden_layers=200)
        (self.model / "config.json").write_text(json.dumps(config))
        prompts = self.write_prompts(4, 8)
        for number, strategy, grid in ((signal.SIGTERM, "read", "-pp"), (signal.SIGUSR1, "broadcast", "-tp"),
                                       (signal.SIGUSR1, "broadcast", "-dp"), (signal.SIGINT, "broadcast", "-dp")):
            with self.subTest(signal=number, strategy=strategy, grid=grid):
                with Job(2, self.arguments(prompts, grid, "2", "--load-strategy", strategy)) as job:
                    job.wait_for_line(f"load strategy: {strategy}")
                    time.sleep(0.3)
                    job.send(1, number)
                    if number == signal.SIGINT:
                        job.wait_for_line("SIGINT on rank 1: no prompt is begun any more", 2)
                        job.send(1, number)
                    code, took = job.end()
                    self.assertEqual(code, STOPPED, job.log())
                    self.assertLess(took, 10)
                    self.assertNotIn("weights: ", job.log())
                if number != signal.SIGINT:
                    self.assertIn(f"stopped by {signal.Signals(number).name} on rank 1", job.log())
                    self.assertEqual(job.complaints(), [])
                    self.assertFalse(self.output.with_name(f"{self.output.name}.spool").exists())

    def test_a_job_that_reads_every_byte_stops_too(self):
        prompts = self.write_prompts(4, 8)
        with prompts.open("r+b") as file:
            file.truncate(80_000_000_000)  # a hole, which takes no disk and 20 s to read
        with Job(2, self.arguments(prompts, "-dp", "2", "--deep")) as job:
            job.wait_for_line("info millrace")
            time.sleep(1)
            job.send(1, signal.SIGUSR1)
            code, took = job.end()
            self.assertEqual(code, STOPPED, job.log())
            self.assertLess(took, 5)
            self.assertIn("stopped by SIGUSR1 on rank 1; run again with --resume", job.log())

    def test_a_signal_at_any_moment_of_the_start_loses_nothing(self):
        self.model = MODELS / "llama-tied-bias"
        prompts = self.folder / "prompts.jsonl"
        prompts.write_text("".join(json.dumps({"prompt": [3 + i % 300, 5, 7], "max_tokens": 1 + i % 60}) + "\n"
                                   for i in range(4000)))
        arguments = ["--model", self.model, "--prompts", prompts, "--output", self.output, "--temperature", "0",
                     "--progress-interval", "0", "--grace-period", "0", "--resume"]
        with Job(0, arguments) as job:
            self.assertEqual(job.end()[0], 0, job.log())
        undisturbed = self.results()
        draw = random.Random(4)
        stopped = 0
        for attempt in range(16):
            number = draw.choice((signal.SIGUSR1, signal.SIGTERM, signal.SIGINT))
            before = answers(self.output)
            with Job(2, arguments) as job:
                job.pid(1)
                time.sleep(draw.uniform(0, 0.6))
                try:
                    job.send(draw.randrange(2), number)
                except (AssertionError, ProcessLookupError):
                    pass  # it has ended
                code, _ = job.end()
            if code == 0:
                break
            # A signal before the program could catch it ends the rank, and mpirun says so.
            self.assertIn(code, (STOPPED, 128 + number), f"attempt {attempt}\n{job.log()}")
            self.assertLessEqual(len(job.complaints()), 1, job.log())
            self.assertGreaterEqual(answers(self.output), before)
            stopped += code == STOPPED
        self.assertGreaterEqual(stopped, 3)
        if not self.output.exists():
            with Job(1, arguments) as job:
                self.assertEqual(job.end()[0], 0, job.log())
        self.assertEqual(self.results(), undisturbed)

    def test_a_job_that_writes_its_result_stops_too_and_resume_writes_it(self):
        self.model = MODELS / "llama-tied-bias"
        prompts = self.folder / "prompts.jsonl"
        prompts.write_text("".join(json.dumps({"prompt": [3 + i % 300, 5, 7], "max_tokens": 100}) + "\n"
                                   for i in range(1000)))  # with the log probabilities 80 MB of results
        arguments = ["--model", self.model, "--prompts", prompts, "--output", self.output, "--temperature", "0",
                     "--ignore-eos", "--logprobs", "20", "--progress-interval", "0", "--grace-period", "0", "--resume"]
        partial = self.output.with_name(f"{self.output.name}.partial")
        for again in (False, True):
            with self.subTest(again=again):
                with Job(2, arguments) as job:
                    job.wait_for(partial.exists, "the result is being written")
                    job.send(1, signal.SIGUSR1)
                    code, _ = job.end()
                    self.assertEqual(code, STOPPED, job.log())
                    self.assertIn("stopped by SIGUSR1 on rank 1; run again with --resume", job.log())
                    self.assertEqual(answers(self.output), 1000)
                    self.assertFalse(self.output.exists())
                    self.assertFalse(partial.exists())
                    self.assertEqual("weights: " in job.log(), not again)  # the second only lacks the result
        with Job(2, arguments) as job:
            job.wait_for(partial.exists, "the result is being written")
            job.send(0, signal.SIGINT)
            job.send(0, signal.SIGINT)
            self.assertEqual(job.end()[0], STOPPED, job.log())
            self.assertEqual(answers(self.output), 1000)
            self.assertFalse(self.output.exists())
        with Job(1, arguments) as job:
            self.assertEqual(job.end()[0], 0, job.log())
        self.assertEqual(len(self.results().splitlines()), 1000)
        self.assertEqual(sorted(path.name for path in self.folder.iterdir()), ["model", "prompts.jsonl"])

    def test_the_time_limit_leaves_room_to_stop(self):
        prompts = self.write_prompts(MANY, SHORT_TOKENS)
        start = time.monotonic()
        with Job(2, self.arguments(prompts, "-dp", "2", "--time-limit", "00:00:15", "--grace-period", "1")) as job:
            self.assert_stopped(job, "the time limit:", 15)
            self.assertLess(time.monotonic() - start, 15)

    def test_the_end_of_the_slurm_job_is_read_from_the_environment(self):
        prompts = self.write_prompts(MANY, SHORT_TOKENS)
        end = {"SLURM_JOB_END_TIME": str(int(time.time()) + 16)}
        with Job(2, self.arguments(prompts, "-dp", "2", "--grace-period", "1"), end) as job:
            self.assert_stopped(job, "the time limit of the Slurm job:", 16)

    def test_a_killed_rank_is_named_once_and_resume_makes_the_rest(self):
        prompts = self.write_prompts(32, SHORT_TOKENS)
        self.run_to_the_end(2, prompts, "-tp", "2")
        undisturbed = self.results()
        for grid, rank in (("-tp", 1), ("-pp", 0)):
            with self.subTest(grid=grid, rank=rank):
                with Job(2, self.arguments(prompts, grid, "2")) as job:
                    self.wait_for_answers(job)
                    job.send(rank, signal.SIGKILL)
                    self.assert_failed(job, rf"^millrace: rank {rank} on host \S+ died in step \d+, killed or out "
                                            "of memory: the job ends$", 10)
                self.run_to_the_end(2, prompts, "-dp", "2", "--resume")
                self.assertEqual(self.results(), undisturbed)

    def test_a_crash_is_named_once(self):
        prompts = self.write_prompts(MANY, SHORT_TOKENS)
        with Job(2, self.arguments(prompts, "-tp", "2")) as job:
            self.wait_for_answers(job)
            job.send(1, signal.SIGSEGV)
            self.assert_failed(job, r"^millrace: rank 1 on host \S+ died of SIGSEGV in step \d+$", 10)

    def test_a_rank_that_stands_still_ends_the_job(self):
        prompts = self.write_prompts(8 * MANY, SHORT_TOKENS)
        with Job(2, self.arguments(prompts, "-pp", "2")) as job:
            self.wait_for_answers(job, 1)  # a rank tells its first step at once, and then every 2 s
            job.send(1, signal.SIGSTOP)
            code = self.assert_failed(job, r"^millrace: rank 1 on host \S+ has been silent for 20 s, last seen in "
                                           r"step \d+.*: the job ends$")
            self.assertEqual(code, STOPPED)

    def test_a_rank_that_hangs_is_named_by_the_watchdog(self):
        prompts = self.write_prompts(MANY, SHORT_TOKENS)
        with Job(2, self.arguments(prompts, "-tp", "2", "--watchdog", "3")) as job:
            self.wait_for_answers(job)
            if not job.freeze_main_thread(1):
                self.skipTest("this system lets no process hold a thread of another")
            code = self.assert_failed(job, r"^millrace: rank \d on host \S+ hangs in step \d+.*: no rank has got on "
                                           r"for 3 s, the job ends$", 15)
            self.assertEqual(code, STOPPED)

    def test_a_rank_without_memory_ends_the_job(self):
        prompts = self.folder / "prompts.jsonl"
        with prompts.open("w") as file:  # the reader needs memory for such lines
            for i in range(400):
                file.write(json.dumps({"prompt": [3, 5], "max_tokens": 8, "id": str(i)}) + "\n")
            for i in range(20):
                file.write(json.dumps({"prompt": "word " * 4_000_000, "max_tokens": 8}) + "\n")
        with Job(2, self.arguments(prompts, "-tp", "2")) as job:
            self.wait_for_answers(job)
            resource.prlimit(job.pid(0), resource.RLIMIT_AS, (1 << 20, resource.RLIM_INFINITY))
            code = self.assert_failed(job, r"^millrace: rank 0 on host \S+.*(out of memory|Cannot allocate memory)")
            self.assertEqual(code, 1)


if __name__ == "__main__":
    unittest.main(verbosity=2)
