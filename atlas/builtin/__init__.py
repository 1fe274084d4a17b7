"""The four jobs that come with Atlas: collect, cleanup, health, report. `binding.bind_builtins` registers them."""
