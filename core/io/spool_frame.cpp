#include "core/io/spool_frame.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "core/io/byte_codec.hpp"
#include "core/io/crc32c.hpp"
#include "kernels/base/error.hpp"

namespace millrace {
namespace {

// Writes the payload behind room for the frame header, then fills the header in.
template <typename Encode>
void append(std::vector<std::byte>& out, FrameType type, Encode encode) {
  const std::size_t start = out.size();
  out.resize(start + frame_header_bytes);
  ByteWriter payload_writer(out);
  encode(payload_writer);
  const auto payload = std::span(out).subspan(start + frame_header_bytes);
  if (payload.size() > max_payload_bytes) {
    const std::size_t bytes = payload.size();
    out.resize(start);
    throw UserError("a result of {} bytes is larger than the journal takes ({} bytes)", bytes,
                    max_payload_bytes);
  }
  std::vector<std::byte> header;
  header.reserve(frame_header_bytes);
  ByteWriter writer(header);
  writer.value(type);
  writer.value(static_cast<std::uint32_t>(payload.size()));
  writer.value(crc32c(payload));
  writer.value(crc32c(header));
  std::copy(header.begin(), header.end(), out.begin() + static_cast<std::ptrdiff_t>(start));
}

void encode(ByteWriter& out, const std::vector<FingerprintPart>& parts) {
  out.varint(parts.size());
  for (const FingerprintPart& part : parts) {
    out.text(part.name);
    out.text(part.value);
  }
}

std::vector<FingerprintPart> decode_parts(ByteReader& in) {
  std::vector<FingerprintPart> parts(in.count(2));
  for (FingerprintPart& part : parts) {
    part.name = in.text();
    part.value = in.text();
  }
  return parts;
}

void encode(ByteWriter& out, const TokenLogprobs& logprobs) {
  out.varint(static_cast<std::uint32_t>(logprobs.token));
  out.value(logprobs.logprob);
  out.varint(static_cast<std::uint32_t>(logprobs.rank));
  out.varint(logprobs.top.size());
  for (const auto& [token, logprob] : logprobs.top) {
    out.varint(static_cast<std::uint32_t>(token));
    out.value(logprob);
  }
}

TokenLogprobs decode_logprobs(ByteReader& in) {
  TokenLogprobs logprobs;
  logprobs.token = static_cast<std::int32_t>(in.varint());
  logprobs.logprob = in.value<float>();
  logprobs.rank = static_cast<std::int32_t>(in.varint());
  logprobs.top.resize(in.count(5));
  for (auto& [token, logprob] : logprobs.top) {
    token = static_cast<std::int32_t>(in.varint());
    logprob = in.value<float>();
  }
  return logprobs;
}

void encode(ByteWriter& out, const Completion& completion) {
  out.varint(static_cast<std::uint32_t>(completion.number));
  out.text(completion.text);
  out.token_ids(completion.token_ids);
  out.value(completion.finish_reason);
  out.text(completion.stop_reason);
  out.varint(completion.logprobs.size());
  for (const TokenLogprobs& logprobs : completion.logprobs) {
    encode(out, logprobs);
  }
}

Completion decode_completion(ByteReader& in) {
  Completion completion;
  completion.number = static_cast<std::int32_t>(in.varint());
  completion.text = in.text();
  completion.token_ids = in.token_ids();
  completion.finish_reason = in.value<FinishReason>();
  if (completion.finish_reason > FinishReason::error) {
    throw CodecError("no such finish reason");
  }
  completion.stop_reason = in.text();
  completion.logprobs.resize(in.count(7));
  for (TokenLogprobs& logprobs : completion.logprobs) {
    logprobs = decode_logprobs(in);
  }
  return completion;
}

}  // namespace

void append_frame(std::vector<std::byte>& out, const SpoolHeader& header) {
  append(out, FrameType::header, [&](ByteWriter& payload) {
    payload.value(spool_schema_version);
    encode(payload, header.fingerprint.parts);
    encode(payload, header.fingerprint.every_byte);
    payload.value(header.prompt_begin);
    payload.value(header.prompt_end);
    payload.value(header.run);
    payload.value(header.replica);
    payload.value(header.prompt_file_bytes);
    payload.text(header.prompt_file);
    payload.varint(header.settings.size());
    for (const auto& [flag, value] : header.settings) {
      payload.text(flag);
      payload.text(value);
    }
  });
}

void append_frame(std::vector<std::byte>& out, const FinishedRequest& request) {
  append(out, FrameType::request, [&](ByteWriter& payload) {
    payload.value(request.key.offset);
    payload.value(request.line_bytes);
    payload.text(request.id);
    payload.text(request.error);
    payload.value(request.arrived_seconds);
    payload.value(request.first_token_seconds);
    payload.value(request.finished_seconds);
    payload.token_ids(request.prompt_token_ids);
    payload.varint(request.completions.size());
    for (const Completion& completion : request.completions) {
      encode(payload, completion);
    }
  });
}

std::optional<FrameHeader> decode_frame_header(std::span<const std::byte> bytes) {
  if (bytes.size() < frame_header_bytes) {
    return std::nullopt;
  }
  ByteReader in(bytes.first(frame_header_bytes));
  FrameHeader header;
  header.type = in.value<FrameType>();
  header.payload_bytes = in.value<std::uint32_t>();
  header.payload_crc = in.value<std::uint32_t>();
  if (in.value<std::uint32_t>() != crc32c(bytes.first(frame_header_bytes - 4)) ||
      header.payload_bytes > max_payload_bytes) {
    return std::nullopt;
  }
  return header;
}

SpoolHeader decode_spool_header(std::span<const std::byte> payload) {
  ByteReader in(payload);
  const auto version = in.value<std::uint32_t>();
  if (version != spool_schema_version) {
    throw UserError("written by {} millrace (journal version {}, this one reads version {})",
                    version > spool_schema_version ? "a newer" : "an older", version,
                    spool_schema_version);
  }
  SpoolHeader header;
  header.fingerprint.parts = decode_parts(in);
  header.fingerprint.every_byte = decode_parts(in);
  header.prompt_begin = in.value<std::int64_t>();
  header.prompt_end = in.value<std::int64_t>();
  header.run = in.value<std::int32_t>();
  header.replica = in.value<std::int32_t>();
  header.prompt_file_bytes = in.value<std::int64_t>();
  header.prompt_file = in.text();
  header.settings.resize(in.count(2));
  for (auto& [flag, value] : header.settings) {
    flag = in.text();
    value = in.text();
  }
  in.expect_end();
  return header;
}

FinishedRequest decode_request(std::span<const std::byte> payload) {
  ByteReader in(payload);
  FinishedRequest request;
  request.key.offset = in.value<std::int64_t>();
  request.line_bytes = in.value<std::int64_t>();
  request.id = in.text();
  request.error = in.text();
  request.arrived_seconds = in.value<double>();
  request.first_token_seconds = in.value<double>();
  request.finished_seconds = in.value<double>();
  request.prompt_token_ids = in.token_ids();
  request.completions.resize(in.count(6));
  for (Completion& completion : request.completions) {
    completion = decode_completion(in);
  }
  in.expect_end();
  return request;
}

FinishedRequest read_request(const PosixFile& file, const SpoolEntry& entry) {
  std::vector<std::byte> payload(entry.bytes);
  if (file.read_at(entry.position, payload) == payload.size()) {
    try {
      return decode_request(payload);
    } catch (const CodecError&) {
    }
  }
  throw UserError("{} changed while it was read: no result at byte {}", file.path().string(),
                  entry.position);
}

SpoolEntry decode_line(std::span<const std::byte> payload) {
  ByteReader in(payload);
  SpoolEntry entry;
  entry.line_offset = in.value<std::int64_t>();
  entry.line_bytes = in.value<std::int64_t>();
  if (entry.line_offset < 0 || entry.line_bytes <= 0) {
    throw CodecError("no such line");
  }
  return entry;
}

}  // namespace millrace
