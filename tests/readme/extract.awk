# Takes the ```cpp blocks out of Markdown files, to be compiled. Writes into the folder `out`:
#   NAME_program_LINE.cpp  a block that has `int main`, as it is
#   NAME_file_LINE.cpp     a block under <!-- snippet: file -->, as it is (internals with includes of their own)
#   NAME.cpp               all others of one document, each in a namespace of its own
# with `using namespace mica`. A block that defines types or functions stands at namespace scope, any other in a function.
# A comment before a block (nothing but blank lines and other such comments between) steers it:
#   <!-- snippet: skip -->        it is not compiled
#   <!-- snippet: top -->         it stands at namespace scope
#   <!-- snippet: body -->        it stands in a function
#   <!-- snippet: continues -->   it stands in the scope of the block before, after it (also after a program's main)
#   <!-- snippet: given CODE -->  CODE stands before it, unseen by the reader
#
#   awk -v out=FOLDER -f extract.awk README.md docs/guide.md ...

function close_function() { if (in_function) { unit = unit "}\n"; in_function = 0 } }
function close_group() {
  close_function()
  if (in_group) { unit = unit "}  // namespace\n"; in_group = 0 }
}
function write(path, text) { printf "%s", text > path; close(path) }

function finish_document() {
  if (document == "") return
  if (fenced) { print document ":" fence_line ": a block that does not end" > "/dev/stderr"; failed = 1 }
  close_group()
  if (unit != "")
    write(out "/" name ".cpp", "#include <mica/mica.h>\n#include <cstdio>\n#include <iostream>\n" includes \
          "using namespace mica;\n" unit)
  unit = includes = program = ""
}

function open_group() { close_group(); unit = unit "namespace snippet_" fence_line " {\n"; in_group = 1 }
function add_body(line, text) {
  if (!in_function) { unit = unit "[[maybe_unused]] static void snippet_" ++functions "() {\n"; in_function = 1 }
  unit = unit given "#line " line " \"" path "\"\n" text
}

# Whether a block defines something, and so stands at namespace scope.
function defines(text,    lines, n, i, depth, line) {
  n = split(text, lines, "\n"); depth = 0
  for (i = 1; i <= n; ++i) {
    line = lines[i]
    if (depth == 0) {
      if (line ~ /^(template|struct|class|enum|namespace|MICA_)[ <(:]?/) return 1
      if (line ~ /^[A-Za-z_][A-Za-z0-9_:<>,&* ]*[ &*][A-Za-z_0-9]+\(.*\{ *(\/\/.*)?$/ && line ~ /\)[a-z ]*\{/ &&
          line !~ /^(for|if|while|else|switch|do|try|return)[ (]/) return 1
      if (line ~ /^[A-Za-z_][A-Za-z0-9_:<>,&* ]*[ &*][A-Za-z_0-9]+\([^=;"]*\)[a-z ]*\{.*\}$/ &&
          line !~ /^(for|if|while|else|switch|do|try|return)[ (]/) return 1
    }
    depth += gsub(/[{(]/, "&", line) - gsub(/[})]/, "&", line)
  }
  return 0
}

function finish_block(    body, start, n, lines, i) {
  ++blocks
  if (mode == "skip") return
  if (mode == "file") { write(out "/" name "_file_" fence_line ".cpp", "#line " fence_line + 1 " \"" path "\"\n" raw); return }
  if (mode != "top" && mode != "body" && raw ~ /(^|\n)int main\(/) {
    write(out "/" name "_program_" fence_line ".cpp", "#line " fence_line + 1 " \"" path "\"\n" raw)
    close_group()
    program = raw
    program_line = fence_line
    return
  }
  if (mode == "") mode = defines(block) ? "top" : "body"
  if (!continues) {
    open_group()
  } else if (program != "") {  # what stands in the program's main comes before
    open_group()
    n = split(program, lines, "\n"); body = ""; start = 0
    for (i = 1; i <= n; ++i) {
      if (lines[i] ~ /^#include/) includes = includes lines[i] "\n"
      else if (lines[i] ~ /^int main\(/) start = i
      else if (start && lines[i] ~ /^}/) break
      else if (start) body = body lines[i] "\n"
    }
    add_body(program_line + start + 1, body)
  } else if (!in_group) {
    open_group()
  }
  program = ""
  if (mode == "body") add_body(fence_line + 1, block)
  else { close_function(); unit = unit given "#line " fence_line + 1 " \"" path "\"\n" block }
}

FNR == 1 {
  finish_document()
  document = path = FILENAME
  name = document; sub(/.*\//, "", name); sub(/\.md$/, "", name); gsub(/[^A-Za-z0-9]/, "_", name)
  fenced = in_group = in_function = 0
  mode = given = ""; continues = 0
}
!fenced && /^ *<!-- snippet: .*-->/ {
  directive = $0
  sub(/^ *<!-- snippet: */, "", directive); sub(/ *-->.*/, "", directive)
  if (directive ~ /^given /) { sub(/^given /, "", directive); given = given directive "\n" }
  else if (directive == "continues") continues = 1
  else if (directive ~ /^(skip|top|body|file)$/) mode = directive
  else { print document ":" FNR ": no such snippet directive: " directive > "/dev/stderr"; failed = 1 }
  next
}
!fenced && /^ *```(cpp|c\+\+|C\+\+)[ \t]*$/ {
  fenced = 1; fence_line = FNR; block = raw = ""
  match($0, /^ */); indent = RLENGTH
  next
}
!fenced && /^ *```/ { fenced = 2; next }  # another language
fenced && /^ *```[ \t]*$/ {
  if (fenced == 1) finish_block()
  fenced = 0; mode = given = ""; continues = 0
  next
}
fenced == 1 {
  line = $0
  if (substr(line, 1, indent) ~ /^ *$/) line = substr(line, indent + 1)
  raw = raw line "\n"
  if (line ~ /^#include/) { includes = includes line "\n"; line = "" }  # to the top of the file
  block = block line "\n"
  next
}
!fenced && !/^[ \t]*$/ { mode = given = ""; continues = 0 }
END {
  finish_document()
  print blocks + 0 " blocks"
  exit failed
}
