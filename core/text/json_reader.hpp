// Reading JSON that somebody else wrote: every access names the place in its error. Heavy to
// include (simdjson): for .cpp files of this folder only.
#pragma once

#include <simdjson.h>

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "core/text/unicode.hpp"
#include "kernels/base/error.hpp"

namespace millrace::text {

// A JSON value and where it stands ("tokenizer.json: model.merges").
class JsonValue {
 public:
  JsonValue(simdjson::dom::element element, std::string place)
      : element_(element), place_(std::move(place)) {}

  const std::string& place() const { return place_; }
  bool is_null() const { return element_.is_null(); }
  bool is_string() const { return element_.is_string(); }
  bool is_array() const { return element_.is_array(); }
  bool is_object() const { return element_.is_object(); }

  [[noreturn]] void refuse(std::string_view why) const {
    throw UserError("{} {}", place_, printable(why));
  }

  // The member `key`, if it is there and not null.
  std::optional<JsonValue> find(std::string_view key) const {
    simdjson::dom::element member;
    if (!is_object()) refuse("must be an object");
    if (element_[key].get(member) != simdjson::SUCCESS || member.is_null()) return std::nullopt;
    return JsonValue(member, place_ + (place_.ends_with(' ') ? "" : ".") + printable(key));
  }
  JsonValue at(std::string_view key) const {
    std::optional<JsonValue> member = find(key);
    if (!member) refuse("has no \"" + std::string(key) + "\"");
    return *std::move(member);
  }

  std::string_view string() const {
    std::string_view value;
    if (element_.get(value) != simdjson::SUCCESS) refuse("must be a string");
    return value;
  }
  bool boolean() const {
    bool value = false;
    if (element_.get(value) != simdjson::SUCCESS) refuse("must be true or false");
    return value;
  }
  int64_t integer() const {
    int64_t value = 0;
    if (element_.get(value) != simdjson::SUCCESS) refuse("must be an integer");
    return value;
  }
  double number() const {
    double value = 0;
    if (element_.get(value) != simdjson::SUCCESS) refuse("must be a number");
    return value;
  }
  bool boolean(std::string_view key, bool otherwise) const {
    const std::optional<JsonValue> member = find(key);
    return member ? member->boolean() : otherwise;
  }
  std::string string(std::string_view key, std::string_view otherwise) const {
    const std::optional<JsonValue> member = find(key);
    return std::string(member ? member->string() : otherwise);
  }

  // use(JsonValue) for each element.
  template <typename Use>
  void for_each(Use use) const {
    simdjson::dom::array array;
    if (element_.get(array) != simdjson::SUCCESS) refuse("must be an array");
    std::size_t index = 0;
    for (const simdjson::dom::element element : array) {
      use(JsonValue(element, place_ + "[" + std::to_string(index++) + "]"));
    }
  }
  // use(key, element) for each member: plain elements, since a vocabulary has many.
  template <typename Use>
  void for_each_member(Use use) const {
    simdjson::dom::object object;
    if (element_.get(object) != simdjson::SUCCESS) refuse("must be an object");
    for (const auto& [key, element] : object) use(std::string_view(key), element);
  }

  simdjson::dom::element element() const { return element_; }

 private:
  simdjson::dom::element element_;
  std::string place_;
};

// A parsed document. Views into it live as long as it does.
class JsonDocument {
 public:
  // UserError: text that is no JSON; `name` is what errors call it.
  JsonDocument(std::string_view text, std::string_view name) : name_(name) {
    auto error = parser_.parse(text.data(), text.size()).get(root_);
    if (error != simdjson::SUCCESS) {
      // Nearly every tokenizer_config.json has a model_max_length of 10^30, which simdjson refuses
      // and others read as a float. The depth is bounded as simdjson's is.
      constexpr int max_depth = 1024;
      const auto parsed = nlohmann::json::parse(
          text, [](int depth, auto, auto&) { return depth < max_depth; },
          /*allow_exceptions=*/false);
      if (!parsed.is_discarded()) error = parser_.parse(parsed.dump()).get(root_);
    }
    if (error != simdjson::SUCCESS) {
      throw UserError("{} is not valid JSON: {}", name_, simdjson::error_message(error));
    }
  }

  JsonValue root() const { return JsonValue(root_, name_ + ": "); }

 private:
  std::string name_;
  simdjson::dom::parser parser_;
  simdjson::dom::element root_;
};

}  // namespace millrace::text
