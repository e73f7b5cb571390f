"""A plugin that lives outside of lsbuild, as a user would write one."""
