// Golden cases: reading their files.
#include "support/golden.h"

#include <map>
#include <nlohmann/json.hpp>
#include <stdexcept>

#include "mica/io/safetensors.h"

namespace mica::test {

using nlohmann::json;

bool GoldenCase::has(const std::string& argument) const { return json::parse(arguments_).contains(argument); }
bool GoldenCase::flag(const std::string& argument) const { return json::parse(arguments_).at(argument).get<bool>(); }
double GoldenCase::number(const std::string& argument) const {
  return json::parse(arguments_).at(argument).get<double>();
}
std::string GoldenCase::text(const std::string& argument) const {
  return json::parse(arguments_).at(argument).get<std::string>();
}
std::vector<int64_t> GoldenCase::list(const std::string& argument) const {
  return json::parse(arguments_).at(argument).get<std::vector<int64_t>>();
}
std::pair<int64_t, int64_t> GoldenCase::pair(const std::string& argument) const {
  return json::parse(arguments_).at(argument).get<std::pair<int64_t, int64_t>>();
}

Tensor GoldenCase::expected(const std::string& output_name) const {
  for (const auto& [tensor_name, tensor] : tensors_)
    if (tensor_name == output_name) return tensor;
  return {};
}

Tensor GoldenCase::input(const std::string& input_name, DType dtype) const {
  const Tensor x = expected(input_name);
  if (!x.defined()) throw std::runtime_error(name + " has no input " + input_name);
  return is_floating(x.dtype()) ? x.to(dtype) : x;
}

const std::vector<GoldenCase>& golden(const std::string& family) {
  static std::map<std::string, std::vector<GoldenCase>> families;
  std::vector<GoldenCase>& cases = families[family];
  if (!cases.empty()) return cases;
  const io::SafetensorsFile file =
      io::load_safetensors(std::string(MICA_SOURCE_DIR) + "/tests/golden/" + family + ".safetensors");
  const std::string* text = file.find_metadata("cases");
  if (!text) throw std::runtime_error(file.path + " lists no cases");
  const json described_cases = json::parse(*text);
  for (const auto& [case_name, described] : described_cases.items()) {
    GoldenCase c;
    c.name = family + "." + case_name;
    c.op = described.at("op").get<std::string>();
    c.arguments_ = described.at("args").dump();
    for (const char* side : {"inputs", "outputs"})
      for (const auto& entry : described.at(side)) {
        const std::string tensor_name = entry.get<std::string>();
        c.tensors_.emplace_back(tensor_name, file.at(case_name + "." + tensor_name));
        if (side[0] == 'i' && tensor_name != "dy") c.inputs.push_back(tensor_name);
      }
    cases.push_back(std::move(c));
  }
  if (cases.empty()) throw std::runtime_error(file.path + " lists no cases");
  return cases;
}

}  // namespace mica::test
