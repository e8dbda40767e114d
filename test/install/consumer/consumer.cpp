// Uses each of the three libraries through its installed headers.
#include <cstdio>

#include "comm/comm.hpp"
#include "core/config/run_config.hpp"
#include "core/version.hpp"
#include "kernels/base/dtype.hpp"

int main() {
  const std::vector<std::string> arguments = {"--model=m", "--prompts=p.txt", "--output=o.jsonl",
                                              "--max-num-seqs=300"};
  const millrace::RunConfig config = millrace::parse_run_config(arguments);
  std::printf("millrace %s, %d sequences, %d rank, %zu bytes\n",
              std::string(millrace::version()).c_str(), config.engine.max_num_seqs,
              millrace::Comm().size(), millrace::size_of(millrace::DType::bf16));
  return config.engine.max_num_seqs == 300 ? 0 : 1;
}
