#include "comm/watchdog_messages.hpp"

#include <cstring>

namespace millrace {
namespace {

template <typename Head>
Bytes pack_message(const Head& head, const std::string& text) {
  Bytes bytes(sizeof(head) + text.size());
  std::memcpy(bytes.data(), &head, sizeof(head));
  std::memcpy(bytes.data() + sizeof(head), text.data(), text.size());
  return bytes;
}

template <typename Message, typename Head>
Message unpack_message(const Bytes& bytes) {
  Message message;
  std::memcpy(static_cast<Head*>(&message), bytes.data(), sizeof(Head));
  message.text = as_text(std::span(bytes).subspan(sizeof(Head)));
  return message;
}

}  // namespace

Bytes pack(const Report& report) { return pack_message<ReportHead>(report, report.text); }
Bytes pack(const Verdict& verdict) { return pack_message<VerdictHead>(verdict, verdict.text); }
Report unpack_report(const Bytes& bytes) { return unpack_message<Report, ReportHead>(bytes); }
Verdict unpack_verdict(const Bytes& bytes) { return unpack_message<Verdict, VerdictHead>(bytes); }

}  // namespace millrace
