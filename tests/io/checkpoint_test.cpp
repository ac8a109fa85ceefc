// Checkpoints: states written and set again, and files of which one is always whole.
#include "mica/io/checkpoint.h"

#include <doctest/doctest.h>
#include <signal.h>
#include <sys/resource.h>

#include <cmath>

#include "mica/ops/elementwise.h"
#include "mica/optim/adam.h"
#include "support/damage.h"
#include "support/error_text.h"
#include "support/temp_dir.h"
#include "support/tensors.h"

using namespace mica;
using namespace mica::test;

namespace {

struct Part {
  double share = 0.25;
  std::vector<double> row = {1, NAN, -0.0};
  void visit_state(StateVisitor& v) {
    v("share", share);
    v("row", row);
  }
};

struct Everything {
  bool on = true;
  int64_t count = -3;
  uint64_t seed = ~uint64_t{0};
  std::string text = "a\nb";
  std::vector<int64_t> counts = {};
  Tensor weight = sample({2, 3}, float32), absent;
  Tensors kept = {sample({2}, float64), Tensor(7)};
  Part part;
  void visit_state(StateVisitor& v) {
    v("on", on);
    v("count", count);
    v("seed", seed);
    v("text", text);
    v("counts", counts);
    v("weight", weight);
    v("absent", absent);
    v("kept", kept);
    v("part", part);
  }
};

struct Number {
  int64_t value = 0;
  void visit_state(StateVisitor& v) { v("value", value); }
};

io::NamedTensors number(int64_t value) {
  Number n{value};
  return io::state_tensors(n);
}

int64_t value_of(const std::optional<io::Checkpoint>& checkpoint) {
  Number n;
  io::set_state(n, checkpoint.value().tensors);
  return n.value;
}

std::string name(int64_t i) { return "checkpoint-00000000000" + std::to_string(i) + ".safetensors"; }

// No file may grow beyond `bytes` in the scope: a full disk, for this process alone.
class FullDisk {
 public:
  explicit FullDisk(size_t bytes) : handler_(::signal(SIGXFSZ, SIG_IGN)) {
    ::getrlimit(RLIMIT_FSIZE, &old_);
    rlimit limit = old_;
    limit.rlim_cur = bytes;
    ::setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~FullDisk() {
    ::setrlimit(RLIMIT_FSIZE, &old_);
    ::signal(SIGXFSZ, handler_);
  }

 private:
  rlimit old_;
  void (*handler_)(int);
};

}  // namespace

TEST_CASE("state: all kinds of fields are written by name, and set again to the bit") {
  Everything from, to;
  const io::NamedTensors tensors = io::state_tensors(from);
  to.on = false;
  to.count = 0;
  to.seed = 0;
  to.text.clear();
  to.counts = {4, 5};
  to.weight.fill(0);
  to.kept.clear();
  to.part = {0, {}};
  io::set_state(to, tensors);
  const io::NamedTensors again = io::state_tensors(to);
  REQUIRE(again.size() == tensors.size());
  std::string names;
  for (size_t i = 0; i < tensors.size(); ++i) {
    names += tensors[i].first + " ";
    CHECK(again[i].first == tensors[i].first);
    CHECK(same_bits(again[i].second, tensors[i].second));
  }
  CHECK(names == "on count seed text counts weight kept.0 kept.1 part.share part.row ");
  CHECK(to.text == "a\nb");
  CHECK(to.seed == ~uint64_t{0});
  CHECK(!to.weight.shares_storage_with(from.weight));
}

TEST_CASE("state: what does not fit is refused, and nothing is changed") {
  const auto refused = [](const char* name, Tensor tensor) {
    Everything from, to;
    io::NamedTensors tensors = io::state_tensors(from);
    bool known = false;
    for (auto& [path, value] : tensors)
      if (path == name) value = tensor, known = true;
    if (!known) tensors.emplace_back(name, tensor);
    std::erase_if(tensors, [](const auto& t) { return !t.second.defined(); });
    to.count = 99;
    const std::string text = error_text([&] { io::set_state(to, tensors); });
    CHECK(to.count == 99);
    return text;
  };
  CHECK(refused("part.share", {}) == "[set_state] there is no \"part.share\"");
  CHECK(refused("count", Tensor(1.0)) == "[set_state] \"count\" must be int64, got float32");
  CHECK(refused("part.share", zeros({1}, {float64})) == "[set_state] \"part.share\" must be one number, got shape [1]");
  CHECK(refused("text", zeros({1, 1}, {uint8})) == "[set_state] \"text\" must have one axis, got shape [1,1]");
  CHECK(refused("weight", zeros({3, 2})) == "[set_state] \"weight\" must have shape [2,3], got [3,2]");
  CHECK(refused("weight", zeros({2, 3}, {float64})) == "[set_state] \"weight\" must be float32, got float64");
  CHECK(refused("part.more", zeros({2})) == "[set_state] there is nothing that takes \"part.more\" [2]");
  Everything object;
  CHECK(error_text([&] { io::check_state(object, {}); }) == "[set_state] there is no \"on\"");
}

TEST_CASE("checkpoints: the last one is read back, and the last two are kept") {
  const TempDir dir;
  const std::string path = dir.file("runs/a");
  {
    io::Checkpoints folder(path);
    CHECK(folder.folder() == path);
    CHECK(!folder.last());
    for (int64_t i = 1; i <= 4; ++i) folder.save(i, number(10 * i));
    CHECK(std::filesystem::exists(path + "/" + name(3)));
    CHECK(!std::filesystem::exists(path + "/" + name(2)));
  }
  io::Checkpoints folder(path);
  const auto last = folder.last();
  CHECK(value_of(last) == 40);
  CHECK(last->number == 4);
  CHECK(last->path == path + "/" + name(4));
}

TEST_CASE("checkpoints: a broken one is passed over for the one before it") {
  const TempDir dir;
  const auto damaged = [&](const std::string& bytes) {
    std::filesystem::remove_all(dir.file("a"));
    io::Checkpoints folder(dir.file("a"));
    folder.save(1, number(10));
    folder.save(2, number(20));
    dir.write("a/" + name(2), bytes);
    return value_of(folder.last());
  };
  {
    io::Checkpoints folder(dir.file("a"));
    folder.save(1, number(10));
    folder.save(2, number(20));
  }
  const std::string whole = read_file(dir.file("a/" + name(2)));
  CHECK(damaged(whole) == 20);
  for (size_t cut = 0; cut < whole.size(); ++cut) CHECK(damaged(whole.substr(0, cut)) == 10);
  // Any bit may flip but those that say nothing: of spaces, and of the letters in the checksum's key or value, whose
  // loss is told too.
  for (size_t bit = 0; bit < whole.size() * 8; ++bit) {
    std::string bytes = whole;
    bytes[bit / 8] = static_cast<char>(bytes[bit / 8] ^ (1 << (bit % 8)));
    INFO("bit " << bit);
    CHECK(damaged(bytes) == 10);
  }
}

TEST_CASE("checkpoints: after a broken one, what is written next replaces it") {
  const TempDir dir;
  io::Checkpoints folder(dir.file("a"));
  folder.save(1, number(10));
  folder.save(5, number(50));
  dir.write("a/" + name(5), "broken");
  CHECK(value_of(folder.last()) == 10);
  folder.save(3, number(30));
  CHECK(value_of(folder.last()) == 30);
  CHECK(!std::filesystem::exists(dir.file("a/" + name(5))));
  CHECK(std::filesystem::exists(dir.file("a/" + name(1))));
}

TEST_CASE("checkpoints: where all are broken that is an error, and they stay") {
  const TempDir dir;
  io::Checkpoints folder(dir.file("a"));
  folder.save(1, number(10));
  const std::string path = dir.write("a/" + name(1), "broken!!");
  CHECK(contains(error_text<FileError>([&] { folder.last(); }), path));
  CHECK(read_file(path) == "broken!!");
  dir.write("a/" + name(2), "");
  CHECK(contains(error_text<FileError>([&] { folder.last(); }), name(2)));
  io::save_safetensors(dir.file("a/" + name(3)), number(3));
  CHECK(error_text<FileError>([&] { folder.last(); }) ==
        "[checkpoints] " + dir.file("a/" + name(3)) +
            ": the file is no checkpoint (no \"mica.crc32\" in its metadata)");
}

TEST_CASE("checkpoints: a disk that is full at any write leaves the one before it") {
  const TempDir dir;
  io::Checkpoints folder(dir.file("a"));
  const io::NamedTensors big = {{"weight", sample({64, 1024}, float32)}, {"bias", sample({1024}, float32)}};
  int64_t i = 0;
  folder.save(++i, big);
  const size_t bytes = read_file(dir.file("a/" + name(1))).size();
  for (size_t room = 0; room < bytes; room += bytes / 30) {
    const FullDisk disk(room);
    CHECK(contains(error_text<FileError>([&] { folder.save(++i, number(2)), folder.save(++i, big); }), "cannot write"));
    CHECK(folder.last());
  }
  folder.save(++i, big);
  CHECK(same_bits(folder.last()->tensors[0].second, big[0].second));
  CHECK(std::distance(std::filesystem::directory_iterator(dir.file("a")), {}) == 2);  // and nothing half-written
}

TEST_CASE("checkpoints: what a killed process left half-written is removed, and other files are not") {
  const TempDir dir;
  std::filesystem::create_directory(dir.file("a"));
  dir.write("a/" + name(7) + ".tmp-123-0", "half");
  dir.write("a/notes.txt", "mine");
  dir.write("a/checkpoint-x.safetensors", "mine");
  io::Checkpoints folder(dir.file("a"));
  folder.save(1, number(1));
  folder.save(2, number(2));
  folder.save(3, number(3));
  CHECK(!std::filesystem::exists(dir.file("a/" + name(7) + ".tmp-123-0")));
  CHECK(std::filesystem::exists(dir.file("a/notes.txt")));
  CHECK(std::filesystem::exists(dir.file("a/checkpoint-x.safetensors")));
}

TEST_CASE("checkpoints: a folder that another has, or that cannot be made, is refused") {
  const TempDir dir;
  io::Checkpoints first(dir.file("a"));
  CHECK(error_text<FileError>([&] { io::Checkpoints second(dir.file("a")); }) ==
        "[checkpoints] " + dir.file("a") + ": the folder is in use by another training");
  {
    const io::Checkpoints moved = std::move(first);
    CHECK(moved.folder() == dir.file("a"));
  }
  io::Checkpoints third(dir.file("a"));
  dir.write("file", "");
  CHECK(contains(error_text<FileError>([&] { io::Checkpoints(dir.file("file")); }), "[checkpoints] "));
  CHECK(contains(error_text<FileError>([&] { io::Checkpoints(dir.file("file/b")); }), "cannot make the folder"));
  CHECK(error_text([] { io::Checkpoints(""); }) == "[checkpoints] the folder has no name");
  CHECK(error_text([&] { third.save(-1, {}); }) == "[checkpoints] the number must not be negative, got -1");
}

TEST_CASE("checkpoints: an older number is refused, whether the newer was read or not") {
  const TempDir dir;
  const auto refused = [&](io::Checkpoints& folder, int64_t i) {
    return error_text([&] { folder.save(i, number(0)); }) ==
           "[checkpoints] " + dir.file("a") +
               ": there is a checkpoint 7 already, and the next must have a larger number, got " + std::to_string(i);
  };
  {
    io::Checkpoints folder(dir.file("a"));
    folder.save(7, number(70));
    CHECK(refused(folder, 7));
  }
  io::Checkpoints folder(dir.file("a"));
  CHECK(refused(folder, 1));
  CHECK(value_of(folder.last()) == 70);
  CHECK(refused(folder, 3));
  folder.save(8, number(80));
  CHECK(value_of(folder.last()) == 80);
}

TEST_CASE("optimizers: their state goes on to the bit, whatever gives the learning rate") {
  const auto step = [](const Parameter& w, optim::Optimizer& optimizer) {
    w.zero_gradient();
    w.leaf()->gradient = w.value() * 0.5;
    optimizer.step();
  };
  const Tensor start = sample({3}, float32);
  Parameter a, b;
  a.value() = start.clone();
  b.value() = start.clone();
  const optim::LearningRate decay = optim::exponential_decay(0.1, 3, 0.5, {.warmup = 2, .minimum = 0.01});
  optim::Optimizer one = optim::Adam(std::vector{a}, {.learning_rate = decay}), two = optim::Adam(std::vector{b});
  for (int i = 0; i < 3; ++i) step(a, one);
  io::set_state(two, io::state_tensors(one));
  b.value().copy_from(a.value());
  CHECK(two.iterations() == 3);
  CHECK(two.schedule() == decay);
  for (int i = 0; i < 3; ++i) step(a, one), step(b, two);
  CHECK(same_bits(a.value(), b.value()));
  // A function is the program's own, and stays.
  optim::Optimizer three = optim::Adam(std::vector{a}, {.learning_rate = [](int64_t) { return 0.5; }});
  io::set_state(two, io::state_tensors(three));
  CHECK(two.learning_rate() == decay.at(0));
}
