# SPDX-License-Identifier: GPL-3.0-or-later
# A few line plots side by side as one SVG file, for scripts/bench --plot.
# A panel: { title, x => label, y => label, log_x => bool, points => [ [x, y], ... ] }
package Plot;
use strict;
use warnings;

my ($width, $height, $left, $top, $gap) = (300, 200, 60, 40, 30);

sub escape {
	my ($s) = @_;
	$s =~ s/&/&amp;/g;
	$s =~ s/</&lt;/g;
	return $s;
}

sub text {
	my ($x, $y, $s, $anchor, $size) = @_;
	return sprintf qq{<text x="%.1f" y="%.1f" text-anchor="%s" font-size="%d">%s</text>\n}, $x, $y,
		$anchor || 'middle', $size || 11, escape($s);
}

sub line {
	my ($x1, $y1, $x2, $y2, $colour) = @_;
	return sprintf qq{<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="%s"/>\n}, $x1, $y1, $x2, $y2,
		$colour;
}

# 1, 2 or 5 times a power of ten, so that at most five of it reach the value.
sub step {
	my ($max) = @_;
	my $p = 1e-3;
	while (1) {
		for my $k (1, 2, 5) {
			return $k * $p if $max <= 5 * $k * $p;
		}
		$p *= 10;
	}
	return;
}

sub number {
	my ($n, $log) = @_;
	return sprintf '10^%d', log($n) / log(10) + 0.5 if $log && $n =~ /^10+$/;
	1 while $n =~ s/^(\d+)(\d{3})/$1,$2/;
	return $n;
}

sub x_of {
	my ($panel, $x) = @_;
	my @xs = map { $_->[0] } @{ $panel->{points} };
	my ($min, $max) = ($xs[0], $xs[-1]);
	($min, $max, $x) = map { log } $min, $max, $x if $panel->{log_x};
	return $max > $min ? ($x - $min) / ($max - $min) * $width : $width / 2;
}

sub panel {
	my ($p) = @_;
	my @ys = map { $_->[1] } @{ $p->{points} };
	my $max = (sort { $b <=> $a } @ys)[0] || 1;
	my $step = step($max);
	my $y_max = $step * int($max / $step + 0.9999);
	my $y_of = sub { $height - $_[0] / $y_max * $height };
	my $out = text($width / 2, -16, $p->{title}, 'middle', 13);
	for (my $y = 0; $y <= $y_max + $step / 2; $y += $step) {
		$out .= line(0, $y_of->($y), $width, $y_of->($y), $y == 0 ? '#000' : '#ddd');
		$out .= text(-6, $y_of->($y) + 4, number($y), 'end');
	}
	my @at;
	for my $point (@{ $p->{points} }) {
		my ($x, $y) = (x_of($p, $point->[0]), $y_of->($point->[1]));
		push @at, sprintf '%.1f,%.1f', $x, $y;
		$out .= sprintf qq{<circle cx="%.1f" cy="%.1f" r="3" fill="#06c"/>\n}, $x, $y;
		$out .= text($x, $height + 16, number($point->[0], $p->{log_x}));
	}
	$out .= qq{<polyline points="@at" fill="none" stroke="#06c" stroke-width="1.5"/>\n};
	$out .= text($width / 2, $height + 34, $p->{x});
	$out .= text(-6, -4, $p->{y}, 'start', 10);
	return $out;
}

sub svg {
	my (@panels) = @_;
	my $columns = 2;
	my $rows = int((@panels + $columns - 1) / $columns);
	my ($w, $h) = ($left + $width + $gap, $top + $height + 60);
	my $out = sprintf qq{<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="sans-serif">\n},
		$w * $columns, $h * $rows;
	$out .= qq{<rect width="100%" height="100%" fill="#fff"/>\n};
	for my $i (0 .. $#panels) {
		$out .= sprintf qq{<g transform="translate(%d,%d)">\n%s</g>\n}, $left + $w * ($i % $columns),
			$top + $h * int($i / $columns), panel($panels[$i]);
	}
	return "$out</svg>\n";
}

1;
