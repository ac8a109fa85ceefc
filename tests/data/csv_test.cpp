// What a CSV file may hold, raw and gzipped, and what is said of one that breaks the rules.
#include "mica/data/csv.h"

#include <doctest/doctest.h>

#include <cmath>

#include "mica/data/table_encoder.h"
#include "support/damage.h"
#include "support/error_text.h"
#include "support/gzip.h"
#include "support/temp_dir.h"

using namespace mica;
using mica::data::ColumnType;
using mica::data::CSVOptions;
using mica::data::Table;
using mica::test::contains;
using mica::test::error_text;
using mica::test::gzip;
using mica::test::TempDir;

namespace {

using Strings = std::vector<std::string>;

Table loaded_csv(const std::string& bytes, const CSVOptions& options = {}) {
  const TempDir folder;
  return data::load_csv(folder.write("table.csv", bytes), options);
}

Strings text_column(const Table& table, const std::string& name) {
  Strings all;
  for (int64_t i = 0; i < table.rows(); ++i) all.emplace_back(table.texts(name)[i]);
  return all;
}

std::vector<double> number_column(const Table& table, const std::string& name) {
  const auto numbers = table.numbers(name);
  return {numbers.begin(), numbers.end()};
}

// The error of loading these bytes, without "[load_csv] <path>: ", which every error must begin with.
std::string csv_rejection(const std::string& bytes, const CSVOptions& options = {}) {
  const TempDir folder;
  const std::string path = folder.write("table.csv", bytes);
  const std::string text = error_text<FileError>([&] { data::load_csv(path, options); });
  const std::string start = "[load_csv] " + path + ": ";
  return text.compare(0, start.size(), start) == 0 ? text.substr(start.size()) : text;
}

}  // namespace

TEST_CASE("csv: columns of numbers and of texts are told apart by all of their fields") {
  const Table t = loaded_csv("age,city,code\n35,Berlin,1\n-1.5e3,Paris,2\n 7\t,,x\n");
  CHECK(t.rows() == 3);
  CHECK(t.names() == Strings{"age", "city", "code"});
  CHECK(t.type("age") == ColumnType::number);
  CHECK(number_column(t, "age") == std::vector<double>{35, -1500, 7});
  CHECK(text_column(t, "city") == Strings{"Berlin", "Paris", ""});
  CHECK(text_column(t, "code") == Strings{"1", "2", "x"});
}

TEST_CASE("csv: quoted fields hold separators, line breaks and doubled quotes, in the header too") {
  const Table t = loaded_csv("\"a,b\",\"c\"\"d\"\n\"1\",\"x\ny\"\n2,\"\"\"\"\"\"\n3,\"p\r\nq,\"\n");
  CHECK(t.names() == Strings{"a,b", "c\"d"});
  CHECK(number_column(t, "a,b") == std::vector<double>{1, 2, 3});
  CHECK(text_column(t, "c\"d") == Strings{"x\ny", "\"\"", "p\r\nq,"});
}

TEST_CASE("csv: LF or CRLF, a last line without one, blank lines, and a byte order mark make no difference") {
  for (const std::string bytes : {"a,b\n1,x\n2,y\n", "a,b\r\n1,x\r\n2,y\r\n", "a,b\n1,x\n2,y",
                                  "\xef\xbb\xbf\"a\",b\n1,x\n2,y", "\n\na,b\n\n1,x\r\n\r\n2,y\n\n"}) {
    for (const std::string& file : {bytes, gzip(bytes)}) {
      const Table t = loaded_csv(file);
      CHECK(t.names() == Strings{"a", "b"});
      CHECK(number_column(t, "a") == std::vector<double>{1, 2});
      CHECK(text_column(t, "b") == Strings{"x", "y"});
    }
  }
}

TEST_CASE("csv: the only column of a table may miss values, which are quoted then") {
  const Table t = loaded_csv("a\n1\n\"\"\n\n2\n");
  CHECK(t.rows() == 3);
  CHECK(std::isnan(t.numbers("a")[1]));
}

TEST_CASE("csv: empty fields are missing, and so are the texts that the caller lists") {
  const std::string bytes = "a,b\nNA,?\n1,\n,x\n";
  CHECK(loaded_csv(bytes).type("a") == ColumnType::text);
  const Table t = loaded_csv(bytes, {.missing = {"NA", "?"}});
  CHECK(std::isnan(t.numbers("a")[0]));
  CHECK(t.numbers("a")[1] == 1);
  CHECK(std::isnan(t.numbers("a")[2]));
  CHECK(text_column(t, "b") == Strings{"", "", "x"});
  const Table nothing = loaded_csv("a,b\n,1\n");
  CHECK(std::isnan(nothing.numbers("a")[0]));
}

TEST_CASE("csv: what is a number") {
  for (const char* text :
       {"0", "-0", "12", "1.", ".5", "1e5", "1E-5", "1.7976931348623157e308", "  3 ", "+1", "+.5e+3", "1e-400"})
    CHECK_MESSAGE(loaded_csv(std::string("a\n") + text + "\n").type("a") == ColumnType::number, text);
  for (const char* text :
       {"nan", "inf", "-infinity", "1e999", "0x10", "1,5", "1 000", "++1", "+-1", "-+1", "+", "1e", "-", " x", "12a"})
    CHECK_MESSAGE(loaded_csv(std::string("a\n\"") + text + "\"\n").type("a") == ColumnType::text, text);
}

TEST_CASE("csv: a number too close to 0 is 0 of its sign, and one too large is a text, however they are written") {
  const std::string zeros(400, '0');
  for (const std::string& text : Strings{"1e-400", "+0.1e-399", "1e-99999999999999999999", "." + zeros + "1",
                                         "0." + zeros + "9e5", "1" + zeros + "e-800", "1e-324"}) {
    CAPTURE(text);
    const Table t = loaded_csv("a,b\n" + text + ",-" + text.substr(text[0] == '+') + "\n");
    REQUIRE(t.type("a") == ColumnType::number);
    CHECK(t.numbers("a")[0] == 0);
    CHECK(!std::signbit(t.numbers("a")[0]));
    CHECK(t.numbers("b")[0] == 0);
    CHECK(std::signbit(t.numbers("b")[0]));
  }
  for (const std::string& text :
       Strings{"1e309", "-1e+400", "1e99999999999999999999", "1" + zeros, "1" + zeros + "e-5", "." + zeros + "1e800"})
    CHECK_MESSAGE(loaded_csv("a\n" + text + "\n").type("a") == ColumnType::text, text);
  const Table t = loaded_csv("a\n5e-324\n1" + zeros + "e-400\n" + "0." + zeros + "1e401\n");
  CHECK(number_column(t, "a") == std::vector<double>{5e-324, 1, 1});
}

TEST_CASE("csv: the caller may say what a column holds, what separates, and what columns are called") {
  const Table t = loaded_csv("zip;n\n01234;1\n00001;2\n", {.separator = ';', .texts = {"zip"}, .numbers = {"n"}});
  CHECK(text_column(t, "zip") == Strings{"01234", "00001"});
  CHECK(number_column(t, "n") == std::vector<double>{1, 2});
  const Table named = loaded_csv("1\tx\n2\ty\n", {.separator = '\t', .names = {"n", "s"}});
  CHECK(number_column(named, "n") == std::vector<double>{1, 2});
  CHECK(text_column(named, "s") == Strings{"x", "y"});
  CHECK(loaded_csv("a,b\n").rows() == 0);
}

TEST_CASE("csv: .texts keeps a column as it was in training where a file to be scored holds nothing but numbers") {
  const data::TableEncoder encoder(loaded_csv("code\n1\n2\nx\n"));
  const std::string scored = "code\n2\n";
  CHECK(contains(error_text([&] { encoder.encode(loaded_csv(scored)); }), "load_csv's option .texts keeps them so"));
  CHECK(encoder.encode(loaded_csv(scored, {.texts = {"code"}})).at({0, 1}) == 1);
}

TEST_CASE("csv: fields and lines that go over the edges of what is read at once") {
  std::string bytes = "a,b\n";
  Strings expected;
  for (int i = 0; i < 3000; ++i) {
    expected.push_back(std::string(static_cast<size_t>(i % 97), 'x') + "\"\n" + std::to_string(i));
    bytes += std::to_string(i) + ",\"" + std::string(static_cast<size_t>(i % 97), 'x') + "\"\"\n" + std::to_string(i) +
             "\"\r\n";
  }
  for (const std::string& file : {bytes, gzip(bytes)}) {
    const Table t = loaded_csv(file);
    CHECK(t.rows() == 3000);
    CHECK(t.numbers("a")[2999] == 2999);
    CHECK(text_column(t, "b") == expected);
  }
}

TEST_CASE("csv: what is wrong with a file is said with its line and column") {
  CHECK(csv_rejection("") == "the file is empty");
  CHECK(csv_rejection("\xef\xbb\xbf\n\r\n") == "the file is empty");
  CHECK(csv_rejection(gzip("")) == "the file is empty");
  CHECK(csv_rejection("a,,c\n") == "line 1, column 2: the column has no name");
  CHECK(csv_rejection("a,b,a\n") == "line 1, column 3: the name \"a\" is that of column 1 too");
  CHECK(csv_rejection("a,b\n1,2\n3\n") == "line 3 has 1 field, not 2");
  CHECK(csv_rejection("a,b,c\n\n1,2") == "line 3 has 2 fields, not 3");
  CHECK(csv_rejection("a,b\n\"1\n\",2\n1,2,3\n") == "line 4 has more than 2 fields");
  CHECK(csv_rejection("a\n1,2\n") == "line 2 has more than 1 field");
  CHECK(csv_rejection("a,b\n1,\"x\n\n") == "line 2, column \"b\": the quote that opens here is not closed");
  CHECK(csv_rejection("\"a") == "line 1, column 1: the quote that opens here is not closed");
  CHECK(csv_rejection("a,b\n1,5\" pipe\n") == "line 2, column \"b\": a quote in a field that does not begin with one");
  CHECK(csv_rejection("a,b\n\"1\"x,2\n") == "line 2, column \"a\": \"x\" after the closing quote");
  CHECK(csv_rejection("a,b\n1\r2,3\n") == "line 2, column \"a\": a carriage return without a line feed");
  CHECK(csv_rejection("a,b\n1,2\r") == "line 2, column \"b\": a carriage return without a line feed");
  CHECK(csv_rejection("a,b\n1,\"2\"\r\"") == "line 2, column \"b\": a carriage return without a line feed");
  CHECK(csv_rejection("a,b\n1,\"\xc3\xa9\xff\"\n") == "line 2, column \"b\": byte ff is not UTF-8");
  CHECK(csv_rejection("\xff\xfe"
                      "a\n") == "line 1, column 1: byte ff is not UTF-8");
  CHECK(csv_rejection(std::string("a,b\n1,x\0\n", 9)) == "line 2, column \"b\": a NUL byte");
  CHECK(csv_rejection(std::string("a,b\n1,\"x\0\"\n", 11)) == "line 2, column \"b\": a NUL byte");
  CHECK(csv_rejection(std::string("a\n1,\0", 5)) == "line 2, column 2: a NUL byte");  // where no column is
}

TEST_CASE("csv: a column that is said to hold numbers names the first field that is none") {
  const CSVOptions numbers{.missing = {"NA"}, .numbers = {"b"}};
  CHECK(csv_rejection("a,b\n\"x\ny\",1\nx,NA\n\nx,12a\nx,z\n", numbers) ==
        "line 6, column \"b\": \"12a\" is not a number");
  CHECK(csv_rejection("a,b\nx,nan\n", numbers) == "line 2, column \"b\": \"nan\" is not a number");
  CHECK(csv_rejection("a\n1\n", numbers) == "there is no column \"b\"");
  CHECK(csv_rejection("a\n1\n", {.texts = {"zip"}}) == "there is no column \"zip\"");
}

TEST_CASE("csv: options that make no sense are refused before the file is opened") {
  const auto refusal = [](const CSVOptions& options) {
    return error_text([&] { data::load_csv("/nowhere", options); });
  };
  CHECK(refusal({.separator = '"'}) ==
        "[load_csv] the separator must be a tab or a printable ASCII character other than a quote, got byte 34");
  CHECK(contains(refusal({.separator = '\n'}), "got byte 10"));
  CHECK(refusal({.names = {"a", "b", "a"}}) == "[load_csv] the names of the columns must differ: a");
  CHECK(refusal({.names = {"a", ""}}) == "[load_csv] the names of the columns must not be empty");
  CHECK(refusal({.texts = {"a"}, .numbers = {"a"}}) == "[load_csv] column \"a\" cannot hold both texts and numbers");
  CHECK(refusal({.max_bytes = 0}) == "[load_csv] max_bytes must be above 0, got 0");
  CHECK(refusal({}) == "[load_csv] /nowhere: cannot open the file: No such file or directory");
}

TEST_CASE("csv: sizes without end are refused") {
  CHECK(csv_rejection(gzip("a\n\"" + std::string((16 << 20) + 1, 'x'))) ==
        "line 2: the record has more than 16777216 bytes");
  CHECK(csv_rejection(gzip(std::string(100'001, ','))) == "line 1 has more than 100000 fields");
  CHECK(csv_rejection("a\n" + std::string(1'000'000, ',')) == "line 2 has more than 1 field");
}

TEST_CASE("csv: a table of more than max_bytes is refused, where it goes over: 8 bytes a value, and the texts") {
  const std::string bytes = "a,b\n1,23\n4,5\n6,xyz\n";  // 6 values and "23", "5", "xyz"
  CHECK(loaded_csv(bytes, {.max_bytes = 54}).rows() == 3);
  CHECK(csv_rejection(bytes, {.max_bytes = 53}) == "line 4: the table takes more than max_bytes (53)");
  CHECK(csv_rejection(bytes, {.max_bytes = 15}) == "line 2: the table takes more than max_bytes (15)");
  CHECK(loaded_csv("a,b\n1,23\n4,5\n6,789\n", {.max_bytes = 48}).rows() == 3);  // no texts
  CHECK(loaded_csv("a\nNA\nx\n", {.missing = {"NA"}, .max_bytes = 17}).rows() == 2);
  CHECK(csv_rejection(gzip("a\n" + std::string(4 << 20, '"') + "\n"), {.max_bytes = 1 << 20}) ==
        "line 2: the table takes more than max_bytes (1048576)");
}

TEST_CASE("csv: 20,000 columns take no quadratic time") {
  std::string bytes = "c0";
  for (int i = 1; i < 20'000; ++i) bytes += ",c" + std::to_string(i);
  bytes += "\n" + std::string(19'999, ',') + "\n";
  CHECK(loaded_csv(bytes).columns() == 20'000);
}

TEST_CASE("csv: a file with any bit flipped is rejected or loaded, never more") {
  const std::string bytes = "age,\"ci\"\"ty\"\r\n35,Z\xc3\xbcrich\n\"7\",\"a,\nb\"\n";
  CHECK(test::check_every_flip(bytes, bytes.size(), [](const std::string& path) { data::load_csv(path); }) > 30);
  const std::string packed = gzip(bytes);
  CHECK(test::check_every_flip(packed, packed.size(), [](const std::string& path) { data::load_csv(path); }) > 300);
}

TEST_CASE("csv: a gzip file that is cut anywhere is refused") {
  const std::string packed = gzip("a,b\n1,2\n3,4\n");
  for (size_t size = 2; size < packed.size(); ++size)
    CHECK_MESSAGE(contains(csv_rejection(packed.substr(0, size)), "the gzip data ends too early, at byte "), size);
}
