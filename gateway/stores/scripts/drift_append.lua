-- KEYS: log. ARGV: how many entries are kept, entries.
for at = 2, #ARGV do
  redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[1], '*', 'd', ARGV[at])
end
return #ARGV - 1
