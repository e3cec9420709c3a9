#!/usr/bin/env escript
%% Processes that each hold a list, and make garbage when they are asked. usage: table.escript PROCESSES ROUNDS
-mode(compile).

own_bytes() ->
  {ok, Text} = file:read_file("/proc/self/statm"),
  [_, Resident, Shared | _] = [binary_to_integer(Word) || Word <- binary:split(string:trim(Text), <<" ">>, [global])],
  (Resident - Shared) * 4096.

hold(List) ->
  receive
    {make, From} ->
      New = [Number + 1 || Number <- List],
      From ! made,
      hold(New)
  end.

ask(Pid) -> Pid ! {make, self()}, receive made -> ok end.

main(Words) ->
  [Count, Rounds] = [list_to_integer(Word) || Word <- Words],
  Pids = [spawn(fun() -> hold(lists:seq(1, 10000)) end) || _ <- lists:seq(1, Count)],
  [ask(Pid) || Pid <- Pids],
  [garbage_collect(Pid) || Pid <- Pids],
  io:format("~b~n", [own_bytes()]),
  [ask(Pid) || _ <- lists:seq(1, Rounds), Pid <- Pids],
  io:format("done~n").
