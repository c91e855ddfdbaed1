"""The commands of `mediaserver archive`, in files by what they are about; `recording.cli` lists them."""
