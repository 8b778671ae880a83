; All ways to put n queens on a board.
(define (safe? row distance placed)
  (cond ((null? placed) #t)
        ((= (car placed) row) #f)
        ((= (car placed) (+ row distance)) #f)
        ((= (car placed) (- row distance)) #f)
        (else (safe? row (+ distance 1) (cdr placed)))))
(define (queens n)
  (let place ((column 0) (placed '()))
    (if (= column n) 1
        (fold (lambda (sum row)
                (if (safe? row 1 placed) (+ sum (place (+ column 1) (cons row placed))) sum))
              0 (range 0 n)))))
(print (map queens '(1 2 3 4 5 6 7)))
