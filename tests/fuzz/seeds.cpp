// Writes files to begin with: mica_fuzz_seeds FOLDER puts them into FOLDER/<target>.
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <fstream>

#include "models.h"
#include "support/temp_dir.h"

using namespace mica;

namespace {

std::filesystem::path root;

std::string seed_path(const std::string& target, const std::string& name) {
  std::filesystem::create_directories(root / target);
  return (root / target / name).string();
}

void write(const std::string& target, const std::string& name, const std::string& bytes) {
  std::ofstream(seed_path(target, name), std::ios::binary) << bytes;
}

void write_idx() {
  const std::string files[] = {
      std::string("\0\0\x08\x01\0\0\0\3abc", 11), std::string("\0\0\x0d\x02\0\0\0\1\0\0\0\2ABCDEFGH", 20),
      std::string("\0\0\x0e\x01\0\0\0\1ABCDEFGH", 16), std::string("\0\0\x0c\x03\0\0\0\1\0\0\0\0\0\0\0\2", 16)};
  int number = 0;
  for (const std::string& bytes : files) {
    write("idx", std::to_string(number), bytes);
    write("idx_gz", std::to_string(number++), std::string(1, '\0') + bytes);
  }
  // A gzip file as it is: three bytes, stored.
  write("idx_gz", "raw",
        std::string("\1\x1f\x8b\x08\0\0\0\0\0\0\3\1\4\0\xfb\xff\0\0\x08\1", 20) + std::string(8, '\0'));
}

void write_csv() {
  const std::string files[] = {"a,b\n1,x\n2,\"y \"\"z\"\"\"\n",
                               "\xef\xbb\xbfn;m\r\n1.5;\r\n\"NA\";\"a\r\n\xc3\xa9\"\r\n", "1,2\n3,4"};
  int number = 0;
  for (const std::string& bytes : files) {
    const char options = "\0\3\20"[number];
    write("csv", std::to_string(number++), std::string(1, options) + bytes);
  }
}

void write_encoder() {
  data::Table table;
  table.add("n", std::vector<double>{1, NAN, 3});
  table.add("s", {"a", "", "b"});
  table.add("o", {"x", "y", "x"});
  table.add("t", {"p", "q", "q"});
  const data::TableEncoder encoder(table, {.target = "t", .log1p = {"n"}, .ordinal = {{"o", {"y", "x"}}}});
  write("table_encoder", "all", encoder.to_json());
}

io::NamedTensors samples() {
  return {{"a", tensor({{1, 2}, {3, 4}})},
          {"b/c", zeros({3}, {.dtype = int64})},
          {"s", Tensor(0.5)},
          {"n", empty({0, 2})},
          {"u", ones({5}, {.dtype = uint8})},
          {"d", ones({1}, {.dtype = float64})}};
}

void write_models() {
  int number = 0;
  for (const nn::Model& model : fuzz::models()) {
    const test::TempDir folder;
    model.save(folder.file("model"));
    const std::string graph = *io::load_safetensors(folder.file("model")).find_metadata("mica.graph");
    write("model", std::to_string(number), std::string(1, static_cast<char>(number)) + graph);
    ++number;
  }
}

// Of the last two steps: within an epoch, and at its end.
void write_checkpoints() {
  const test::TempDir folder;
  fuzz::train(folder.file("run"), 1);
  for (const auto& file : std::filesystem::directory_iterator(folder.file("run")))
    std::filesystem::copy_file(file, seed_path("checkpoint", file.path().filename()),
                               std::filesystem::copy_options::overwrite_existing);
}

void write_npz() {
  for (const bool compress : {false, true})
    io::save_npz(seed_path("npz", compress ? "packed" : "stored"), samples(), {.compress = compress});
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 2) return std::fputs("mica_fuzz_seeds FOLDER\n", stderr), 2;
  root = arguments[1];
  write_csv();
  write_encoder();
  write_idx();
  io::save_safetensors(seed_path("safetensors", "all"), samples(), {{"k", "v"}, {"é", "\n"}});
  io::save_safetensors(seed_path("safetensors", "one"), {{"a", Tensor(1.0)}});
  write("safetensors", "nothing", std::string("\2\0\0\0\0\0\0\0{}", 10));
  for (const auto& [name, tensor] : samples())
    io::save_npy(seed_path("npy", std::to_string(tensor.rank()) + "_" + std::string(to_string(tensor.dtype()))),
                 tensor);
  write_npz();
  write_models();
  write_checkpoints();
}
