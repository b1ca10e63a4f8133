-- ARGV  most entries
-- Removes what has expired; returns whether there may be more.

even_when_full()
return sweep(tonumber(ARGV[2])) and 1 or 0
