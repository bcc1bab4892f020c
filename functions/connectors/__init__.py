"""Where events of the bus go on to: one module for each platform, beside what all of them use."""
