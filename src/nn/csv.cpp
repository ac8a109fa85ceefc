// Logs as comma-separated values: the logger, and what histories write too.
#include "nn/csv.h"

#include <cerrno>
#include <cstdio>
#include <system_error>

#include "mica/core/error.h"

namespace mica::nn {

namespace {

std::string quoted(const std::string& name) {
  if (name.find_first_of(",\"\r\n") == name.npos) return name;
  std::string text = "\"";
  for (const char c : name) {
    if (c == '"') text += '"';
    text += c;
  }
  return text + '"';
}

}  // namespace

std::string csv_header(const Logs& logs) {
  std::string text = "epoch";
  for (const auto& [name, value] : logs) text += "," + quoted(name);
  return text + "\n";
}

std::string csv_row(int64_t epoch, const Logs& header, const Logs& logs) {
  std::string text = std::to_string(epoch);
  for (const auto& [name, unused] : header) {
    text += ',';
    if (logs.contains(name)) append_text(text, logs[name]);
  }
  return text + "\n";
}

}  // namespace mica::nn

namespace MICA_EXPORT mica {
namespace callbacks {

namespace {

class CSVLoggerCallback final : public nn::Callback {
 public:
  explicit CSVLoggerCallback(std::string path) : path_(std::move(path)) {}
  ~CSVLoggerCallback() override { close(); }

  void on_train_begin(const nn::Progress& p) override {
    close();
    file_ = std::fopen(path_.c_str(), "we");
    if (!file_) fail_errno("cannot create the file");
    header_ = {};
    int64_t epoch = 0;
    for (const nn::Logs& logs : p.history.epochs()) write(++epoch, logs);
  }
  void on_epoch_end(const nn::Progress& p) override { write(p.epoch + 1, p.logs); }

  void on_train_end(const nn::Progress&, const nn::History&) override { close(); }

 private:
  void write(int64_t epoch, const nn::Logs& logs) {
    std::string text;
    if (header_.size() == 0) {
      header_ = logs;
      text = nn::csv_header(header_);
    }
    text += nn::csv_row(epoch, header_, logs);
    if (std::fwrite(text.data(), 1, text.size(), file_) != text.size() || std::fflush(file_) != 0)
      fail_errno("cannot write");
  }
  void close() {
    if (file_) std::fclose(file_);
    file_ = nullptr;
  }
  [[noreturn]] void fail_errno(const char* action) const {
    const std::string reason = std::generic_category().message(errno);
    fail<FileError>("csv_logger", path_, ": ", action, ": ", reason);
  }

  std::string path_;
  std::FILE* file_ = nullptr;
  nn::Logs header_;  // the first epoch's: the columns
};

}  // namespace

CSVLogger::CSVLogger(std::string path) : Handle(std::make_shared<CSVLoggerCallback>(std::move(path))) {}

}  // namespace callbacks
}  // namespace mica
