#!/usr/bin/perl
# SPDX-License-Identifier: MIT
# words.pl [ROUNDS] - texts are made, taken apart, counted, sorted and put together
# again, in hashes of arrays and strings of all lengths. The output depends on nothing
# but this text and the number of rounds.
use strict;
use warnings;
use integer;

my $rounds = shift // 100;
my $state = 12345;

sub random {
    my ($below) = @_;
    $state = ($state * 1103515245 + 12345) & 0x7fffffff;
    return ($state >> 8) % $below;
}

sub make_text {
    my @words = map { 'w' . random(3000) . 'x' x random(12) } 1 .. 400 + random(800);
    return join ' ', @words;
}

my %index;    # word => the rounds that had it
my @kept;     # the last texts
for my $round (1 .. $rounds) {
    my $text = make_text();
    my %count;
    $count{$_}++ for split / /, $text;
    my @common = sort { $count{$b} <=> $count{$a} || $a cmp $b } keys %count;
    push @{ $index{$_} }, $round for @common;
    (my $changed = $text) =~ s/w(\d+)(x*)/length($2) % 2 ? "$2$1" : uc "w$1"/ge;
    push @kept, { text => $changed, common => [ @common[ 0 .. 9 ] ] };
    shift @kept if @kept > 50;
    delete $index{$_} for grep { random(20) == 0 } @common;
}

my $sum = 0;
for my $word (sort keys %index) {
    $sum = ($sum * 31 + unpack('%32C*', $word) * @{ $index{$word} }) & 0xffffffff;
}
print scalar(keys %index), " words, $sum\n";
print join(' ', map { length $_->{text} } @kept), "\n";
print join(' ', @{ $_->{common} }), "\n" for @kept[ 0 .. 2 ];
