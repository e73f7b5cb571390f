"""`inline::tools`: the tools that come with lsbuild, a calculator and a clock."""
